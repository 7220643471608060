#include "policy/memory_meter.hpp"

#include <Python.h>
#include <malloc.h>

namespace infrastructure_sdk::bindings {
namespace {

// Small objects come from arenas, large ones from the raw allocator: hooks at these two see all of Python's memory, and
// cost the many small allocations nothing.
PyMemAllocatorEx raw;
PyObjectArenaAllocator arenas;
thread_local MemoryMeter* current = nullptr;

bool fits(std::int64_t more) {
    if (!current || current->budget <= 0 || current->used + more <= current->budget) return true;
    current->refused = true;
    return false;
}
void count(std::int64_t bytes) {
    if (current) current->used += bytes;
}
std::int64_t size_of(void* block) { return block ? static_cast<std::int64_t>(::malloc_usable_size(block)) : 0; }

void* raw_malloc(void*, std::size_t size) {
    if (!fits(static_cast<std::int64_t>(size))) return nullptr;
    void* block = raw.malloc(raw.ctx, size);
    count(size_of(block));
    return block;
}
void* raw_calloc(void*, std::size_t items, std::size_t size) {
    if (size != 0 && items > static_cast<std::size_t>(PY_SSIZE_T_MAX) / size) return nullptr;
    if (!fits(static_cast<std::int64_t>(items * size))) return nullptr;
    void* block = raw.calloc(raw.ctx, items, size);
    count(size_of(block));
    return block;
}
void* raw_realloc(void*, void* block, std::size_t size) {
    auto before = size_of(block);
    if (!fits(static_cast<std::int64_t>(size) - before)) return nullptr;
    void* moved = raw.realloc(raw.ctx, block, size);
    if (moved) count(size_of(moved) - before);
    return moved;
}
void raw_free(void*, void* block) {
    count(-size_of(block));
    raw.free(raw.ctx, block);
}

void* arena_alloc(void*, std::size_t size) {
    if (!fits(static_cast<std::int64_t>(size))) return nullptr;
    void* arena = arenas.alloc(arenas.ctx, size);
    if (arena) count(static_cast<std::int64_t>(size));
    return arena;
}
void arena_free(void*, void* arena, std::size_t size) {
    count(-static_cast<std::int64_t>(size));
    arenas.free(arenas.ctx, arena, size);
}

/// GIL held, so it happens once. Never undone: blocks of before and after are freed alike.
void install() {
    static bool done = false;
    if (done) return;
    done = true;
    PyMem_GetAllocator(PYMEM_DOMAIN_RAW, &raw);
    PyObject_GetArenaAllocator(&arenas);
    PyMemAllocatorEx counting{nullptr, raw_malloc, raw_calloc, raw_realloc, raw_free};
    PyMem_SetAllocator(PYMEM_DOMAIN_RAW, &counting);
    PyObjectArenaAllocator counting_arenas{nullptr, arena_alloc, arena_free};
    PyObject_SetArenaAllocator(&counting_arenas);
}

}  // namespace

MeteredScope::MeteredScope(MemoryMeter& meter) : before_(current) {
    install();
    current = &meter;
}
MeteredScope::~MeteredScope() { current = before_; }

}  // namespace infrastructure_sdk::bindings
