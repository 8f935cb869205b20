#ifndef PGQ_PRINTABLE_H
#define PGQ_PRINTABLE_H

#include "buffer.h"

/*
 * Characters that are not seen, or that change how others are shown: controls of ASCII and of Latin-1, separators of
 * lines, marks and overrides of the direction of writing, characters without a width, tags. In a log, such characters
 * could hide a part of a line, or look like another line.
 */

/*
 * How printable_add() writes them: \x1b and \u202e for a reader, or as JSON does. PRINTABLE_TEXT also escapes quotes
 * and backslashes. PRINTABLE_CELL does not, for a text that no quotes surround. PRINTABLE_LINES keeps newlines and
 * tabs. PRINTABLE_JSON is for a text that is JSON already.
 */
enum printable_form { PRINTABLE_TEXT, PRINTABLE_CELL, PRINTABLE_LINES, PRINTABLE_JSON };

/* printable_is(text): whether the text, which is valid UTF-8, has no such character. */
int printable_is(const char *text);

/* printable_add(out, text, form): adds the text, which is valid UTF-8, with such characters escaped. */
void printable_add(struct buffer *out, const char *text, enum printable_form form);

#endif
