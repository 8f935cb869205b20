#ifndef PGQ_NEAREST_H
#define PGQ_NEAREST_H

/*
 * nearest_word(word, candidates, count): the candidate that is most like `word`: the one for which the fewest bytes
 * must be inserted, removed, replaced or swapped, if that is no more than a third of the longer one. NULL if there is
 * none. Words of more than 200 bytes are like no other.
 */
const char *nearest_word(const char *word, const char *const *candidates, int count);

#endif
