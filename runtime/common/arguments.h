#ifndef PGQ_ARGUMENTS_H
#define PGQ_ARGUMENTS_H

/* arguments_copy(argc, argv): a copy of the command line and its texts. arguments_free(argc, copy): frees it, also when
 * its elements have changed places. */
char **arguments_copy(int argc, char **argv);
void arguments_free(int argc, char **copy);

/* arguments_hide(argument): overwrites a text of the command line that the kernel has given this process, so that
 * ps(1) and other users do not see it. */
void arguments_hide(char *argument);

#endif
