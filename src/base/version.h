/* The version of the whole project, as hello, --version and rethread.pc tell it; stated here only.
 */
#ifndef RETHREAD_BASE_VERSION_H
#define RETHREAD_BASE_VERSION_H

#define VERSION_TEXT "0.1.0"

#endif
