#ifndef PGQ_FRONTIER_H
#define PGQ_FRONTIER_H

struct queue;

/* How the jobs of a worker ask for regions (region.h). With a zeroed struct they ask for none. */
struct frontier {
  void (*ask)(void *owner, struct queue *queue); /* the queue wants a region, see region_asked() */
  void *owner;
};

#endif
