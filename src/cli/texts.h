/*
 * What `help` says of commands beyond what the schema says of their options.
 */
#ifndef RETHREAD_CLI_TEXTS_H
#define RETHREAD_CLI_TEXTS_H

extern const char text_about[];
extern const char text_append[];
extern const char text_replay[];
extern const char text_begin[];
extern const char text_chunk[];
extern const char text_commit[];
extern const char text_stream[];
extern const char text_touch[];
extern const char text_forget[];
extern const char text_list[];
extern const char text_weave[];
extern const char text_unweave[];
extern const char text_import[];
extern const char text_export[];
extern const char text_verify[];
extern const char text_completion[];

#endif
