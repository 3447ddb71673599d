/*
 * The options map of a request: private to the room.
 *
 * schema/options.def, row by row, says which options a method has, their types and ranges.
 */
#ifndef RETHREAD_WIRE_OPTIONS_H
#define RETHREAD_WIRE_OPTIONS_H

#include "wire/cursor.h"

/*
 * Takes the options map off the cursor into the fields of *request (whose method is set). What is
 * not given keeps its value. Anything wrong is bad_request and names the option.
 */
enum status wire_options_take(struct wire_cursor *cursor, struct wire_request *request,
                              struct wire_error *error);

#endif
