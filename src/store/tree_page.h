/*
 * LMDB's pages, looked at for what LMDB does not look at itself. Private to src/store/tree*.c.
 *
 * LMDB 0.9 keeps no checksums of its pages, and old versions of a page, whole and sealed, lie about
 * in the file and in the unused middle of pages. So that damage to a single place cannot lead to
 * one of them and pass it off as the newest: the nodes of a page must fill it without a gap
 * (tree_page_is_sound, on every leaf that is read), and every page must be reached by one way and
 * not be free (tree_page_check_all, once at open).
 */
#ifndef RETHREAD_STORE_TREE_PAGE_H
#define RETHREAD_STORE_TREE_PAGE_H

#include "store/wal.h"

enum tree_page_kind { TREE_PAGE_BRANCH = 1, TREE_PAGE_LEAF = 2 }; /* as LMDB has them */

/* Reads nothing but the page. */
bool tree_page_is_sound(const uint8_t *page, size_t page_bytes, enum tree_page_kind kind);

/*
 * All branch pages, the list of tables and the free list, by pread: no writer may be at work. Pages
 * that the file lacks must be free ones. STATUS_INTERNAL: trouble->text says that it is damaged or
 * cut short (error EINVAL), or what failed.
 */
enum status tree_page_check_all(int fd, size_t page_bytes, struct wal_trouble *trouble);

#endif
