# Makes a man page of a page of the manual: cmake -D LOWDOWN= -D PAGE= -D OUTPUT= -D SECTION= -D VERSION= -P man.cmake

get_filename_component(folder ${OUTPUT} DIRECTORY)
file(MAKE_DIRECTORY ${folder})
get_filename_component(name ${OUTPUT} NAME)
string(REGEX REPLACE "\\.${SECTION}$" "" title ${name})
string(TOUPPER ${title} title)

# The title is for readers of the Markdown: a man page has its header instead.
file(READ ${PAGE} text)
string(REGEX REPLACE "^# [^\n]*\n" "" text "${text}")
file(WRITE ${OUTPUT}.md "${text}")
execute_process(
  COMMAND ${LOWDOWN} -s -Tman --out-no-smarty --nroff-nolinks --parse-no-intraemph --parse-no-super
          --parse-no-metadata
          -m title=${title} -m section=${SECTION} -m "source=pgq-lua ${VERSION}" -m "volume=pgq-lua manual"
          -m shiftheadinglevelby=-1 ${OUTPUT}.md
  OUTPUT_VARIABLE page
  RESULT_VARIABLE status)
file(REMOVE ${OUTPUT}.md)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "lowdown failed for ${PAGE}")
endif()

# Headings on one line, which is where programs such as whatis look for them; and indented code.
string(REGEX REPLACE "\n\\.(S[HS])\n([^\n]+)" "\n.\\1 \\2" page "${page}")
string(REPLACE "\n.EX\n" "\n.RS 4\n.EX\n" page "${page}")
string(REPLACE "\n.EE\n" "\n.EE\n.RE\n" page "${page}")
# Literal text in bold, as usual in man pages.
string(REPLACE "\\fC" "\\fB" page "${page}")
# Tables without boxes: all columns but the last are as wide as what is in them.
string(REPLACE ".TS\ntab(|) expand allbox;" ".TS\ntab(|);" page "${page}")
string(REGEX REPLACE "T{\n([^\n]*)\nT}\\|" "\\1|" page "${page}")
string(REGEX REPLACE "\n(lb[ lb]*lb)\n(l[ l]*l)\\." "\n\\1x\n\\2x." page "${page}")
string(REPLACE "\n.TE\n" "\n.TE\n.sp 1\n" page "${page}")
file(WRITE ${OUTPUT} "${page}")
