/* The shared counter of buffered bytes. Its read-modify-writes pair with each other only: it is a
 * number that nothing else is published by, so relaxed order is enough throughout. */
#include "net/buffers.h"

#include <assert.h>

void net_buffers_init(struct net_buffers *buffers, uint64_t max_bytes)
{
    buffers->max_bytes = max_bytes;
    atomic_init(&buffers->used_bytes, 0);
    atomic_init(&buffers->refused_ms, 0);
}

uint64_t net_buffers_used(const struct net_buffers *buffers)
{
    return atomic_load_explicit(&buffers->used_bytes, memory_order_relaxed);
}

bool net_buffers_could_hold(const struct net_buffers *buffers, uint64_t size_bytes)
{
    return size_bytes + NET_SPARE_BYTES <= buffers->max_bytes;
}

bool net_buffers_have_room(const struct net_buffers *buffers)
{
    return net_buffers_used(buffers) < buffers->max_bytes;
}

bool net_buffers_pressed(const struct net_buffers *buffers, uint64_t now_ms)
{
    uint64_t refused_ms = atomic_load_explicit(&buffers->refused_ms, memory_order_relaxed);
    return refused_ms != 0 && now_ms < refused_ms + NET_PRESSURE_MS;
}

static void add(struct net_account *account, size_t size_bytes)
{
    atomic_fetch_add_explicit(&account->buffers->used_bytes, size_bytes, memory_order_relaxed);
}

static void subtract(struct net_account *account, size_t size_bytes)
{
    uint64_t before =
        atomic_fetch_sub_explicit(&account->buffers->used_bytes, size_bytes, memory_order_relaxed);
    assert(before >= size_bytes);
    (void)before;
}

void net_account_press(struct net_account *account, uint64_t now_ms)
{
    atomic_store_explicit(&account->buffers->refused_ms, now_ms, memory_order_relaxed);
}

bool net_account_take(struct net_account *account, size_t size_bytes, uint64_t now_ms)
{
    struct net_buffers *buffers = account->buffers;
    uint64_t before =
        atomic_fetch_add_explicit(&buffers->used_bytes, size_bytes, memory_order_relaxed);
    if (before + size_bytes > buffers->max_bytes) {
        subtract(account, size_bytes);
        net_account_press(account, now_ms);
        return false;
    }
    account->uncharged_bytes += (int64_t)size_bytes;
    return true;
}

void net_account_force(struct net_account *account, size_t size_bytes)
{
    add(account, size_bytes);
    account->uncharged_bytes += (int64_t)size_bytes;
}

void net_account_give(struct net_account *account, size_t size_bytes)
{
    subtract(account, size_bytes);
    account->uncharged_bytes -= (int64_t)size_bytes;
}

void net_account_hold(struct net_account *account, size_t size_bytes)
{
    add(account, size_bytes);
}

void net_account_release(struct net_account *account, size_t size_bytes)
{
    subtract(account, size_bytes);
}

void net_account_charge(struct net_account *account, int64_t size_bytes)
{
    account->uncharged_bytes += size_bytes;
}
