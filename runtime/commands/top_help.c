#include "top_help.h"

#include <stddef.h>

const char *const top_help[] = {
    " Keys. Any key closes this page.",
    "",
    " 1 2 3 4, Tab     queues, jobs, workers, errors of failed jobs",
    " Enter            open the selected row: the jobs of a queue, a job, a worker,",
    "                  the jobs that have failed with an error",
    " Esc, Backspace   go back; clear the filter of a list",
    " e                the errors of the selected queue",
    " t T              jobs: those in the next state, in the one before",
    " arrows, j k      select a row, or scroll a text",
    " PgUp PgDn        a page; behind the last row that was read, read the next rows",
    " Home End         the first row, the last one that was read",
    " s > <            sort by the next column, the one before; S: the other way",
    " /                filter: rows with a text; queues: by name, among all queues",
    " p Space          pause, go on; r: read now",
    " + - d            read less often, more often, as often as you type",
    " q ^C             quit",
    "",
    " A list has 100 rows at a time, and sorting is within these. Nothing is",
    " changed in the database.",
    NULL,
};
