# Joins the parts of the schema into create_table.sql, which users paste into psql.
#
# Run with: cmake -D SOURCE_DIR=… -D OUTPUT=… [-D COPY=…] -P create_table.cmake
# sql/schema/order names the parts in the order in which they are applied. COPY is updated if it differs from OUTPUT; a COPY
# that cannot be written is only a warning, since the build does not need it.

set(folder ${SOURCE_DIR}/sql/schema)
file(STRINGS ${folder}/order names)
file(GLOB present RELATIVE ${folder} ${folder}/*.sql)
set(sorted ${names})
list(SORT sorted)
if(NOT sorted STREQUAL present)
  message(FATAL_ERROR "sql/schema/order does not name each file of sql/schema once: it has ${names}, the folder ${present}")
endif()

file(WRITE ${OUTPUT}.new "-- The tables of pgq-lua. Paste this into psql, or into a migration tool. Or run `pgq-lua migrate`, which does the same in one
-- transaction and also brings an older table up to date. All of it may be run again: what exists stays as it is.
--
-- The build joins this file from the parts in sql/schema. Change those instead.
")
foreach(name IN LISTS names)
  file(READ ${folder}/${name} part)
  file(APPEND ${OUTPUT}.new "\n${part}")
endforeach()

if(COPY)
  execute_process(COMMAND ${CMAKE_COMMAND} -E copy_if_different ${OUTPUT}.new ${COPY}
    RESULT_VARIABLE failed OUTPUT_QUIET ERROR_QUIET)
  if(failed)
    message(WARNING "${COPY} is not current and cannot be written")
  endif()
endif()
file(RENAME ${OUTPUT}.new ${OUTPUT})
