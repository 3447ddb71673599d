/* The contract's names back to the enumerations of rethread.h; the other way round is public. */
#ifndef RETHREAD_CLIENT_NAMES_H
#define RETHREAD_CLIENT_NAMES_H

#include "rethread.h"

/* An unknown name gives SERVER_ERROR or OTHER: later servers may know more. */
enum rethread_status client_status_named(struct rethread_bytes code);
enum rethread_reason client_reason_named(struct rethread_bytes name);
enum rethread_method client_method_named(struct rethread_bytes name);
enum rethread_kind client_kind_named(struct rethread_bytes name);
enum rethread_tier client_tier_named(struct rethread_bytes name);

/* False for an unknown name: what cannot be told whole from partial must not be used. */
bool client_completeness_named(struct rethread_bytes name,
                               enum rethread_completeness *completeness);

#endif
