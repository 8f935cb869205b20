#ifndef PGQ_TOP_SCREEN_H
#define PGQ_TOP_SCREEN_H

#include "top_state.h"

/* top_screen_draw(top): draws everything, and sets top->height. The view is scrolled so that the selected row is seen.
 */
void top_screen_draw(struct top *top);

/* top_screen_width(): columns of the screen. */
int top_screen_width(void);

#endif
