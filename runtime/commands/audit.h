#ifndef PGQ_AUDIT_H
#define PGQ_AUDIT_H

#include <stdint.h>

#include "transaction.h"

/*
 * The row of a command in pgq_audit. It is written in the same transaction as the first change, and its count is
 * updated with each further one, so that it is right however the command ends.
 */
struct audit {
  const char *verb;
  const char *selection; /* NULL: none */
  const char *ids;       /* an int8[] as a text; NULL: none */
  const char *detail;    /* NULL: none */
  /* private */
  char id[24]; /* of the row; "": it is not written yet */
};

/* audit_write(audit, transaction, count): the command has changed `count` jobs so far, in this transaction and the ones
 * before it. Returns 0, or -1 after printing a message. */
int audit_write(struct audit *audit, struct transaction *transaction, int64_t count)
    __attribute__((warn_unused_result));

/* The privileges that this needs, as part of an array for struct transaction. */
#define AUDIT_NEEDS                                                                                                    \
  "pgq_audit INSERT verb,pgq_audit INSERT selection,pgq_audit INSERT ids,pgq_audit INSERT count,"                      \
  "pgq_audit INSERT detail,pgq_audit SELECT id,pgq_audit UPDATE count"

#endif
