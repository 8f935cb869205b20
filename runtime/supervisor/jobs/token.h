#ifndef PGQ_TOKEN_H
#define PGQ_TOKEN_H

#include <stdint.h>

/* token_next(count): returns the first of `count` consecutive lease tokens that no other lease has or had. */
int64_t token_next(int count);

#endif
