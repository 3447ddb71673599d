/*
 * How options.def reads in C: the struct of a method's options and the type of a field, as the
 * public header spells them. For tables made from options.def by whoever speaks that header.
 */
#ifndef RETHREAD_SCHEMA_C_TYPES_H
#define RETHREAD_SCHEMA_C_TYPES_H

#include "rethread.h"

#define STRUCT_HELLO  struct rethread_hello_options
#define STRUCT_APPEND struct rethread_append_options
#define STRUCT_REPLAY struct rethread_replay_options
#define STRUCT_STAT   struct rethread_stat_options
#define STRUCT_TOUCH  struct rethread_touch_options
#define STRUCT_FORK   struct rethread_fork_options
#define STRUCT_REWIND struct rethread_rewind_options
#define STRUCT_FORGET struct rethread_forget_options
#define STRUCT_LIST   struct rethread_list_options
#define STRUCT_BEGIN  struct rethread_begin_options
#define STRUCT_CHUNK  struct rethread_chunk_options
#define STRUCT_COMMIT struct rethread_commit_options
#define STRUCT_ABORT  struct rethread_abort_options

#define FIELD_ID       struct rethread_bytes
#define FIELD_TEXT     struct rethread_bytes
#define FIELD_U64      struct rethread_u64
#define FIELD_I64      struct rethread_i64
#define FIELD_BOOL     struct rethread_bool
#define FIELD_ACK      enum rethread_ack
#define FIELD_POLICY   const char *
#define FIELD_MISMATCH const char *
#define FIELD_KIND     const char *
#define FIELD_IDS      struct rethread_ids
#define FIELD_KINDS    struct rethread_segments
#define FIELD_PREFIX   struct rethread_ids
#define FIELD_PREFIXES struct rethread_prefixes
#define FIELD_HAVE     struct rethread_have

#endif
