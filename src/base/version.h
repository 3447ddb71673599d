/* The version of the whole project, as hello and --version tell it; the Makefile has it too. */
#ifndef RETHREAD_BASE_VERSION_H
#define RETHREAD_BASE_VERSION_H

#define VERSION_TEXT "0.1.0"

#endif
