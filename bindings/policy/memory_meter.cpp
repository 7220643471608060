#include "policy/memory_meter.hpp"

#include <array>
#include <mutex>
#include <unordered_map>

#include <Python.h>

namespace infrastructure_sdk::bindings {
namespace {

// Small objects come from arenas, large ones from the raw allocator: hooks at these two see all of Python's memory, and
// cost the many small allocations nothing.
PyMemAllocatorEx raw;
PyObjectArenaAllocator arenas;
thread_local const MeterPtr* current = nullptr;

struct Block {
    MeterPtr owner;
    std::int64_t size = 0;
};

/// The blocks that policies hold. Any thread may give one back, so each knows whose it is.
class Blocks {
public:
    void put(void* address, Block block) {
        block.owner->used += block.size;
        ++hints_[hint(address)];
        std::lock_guard lock(mutex_);
        blocks_.insert_or_assign(address, std::move(block));
    }
    /// Empty when it is no policy's, which most are: then nothing is locked.
    Block take(void* address) {
        if (hints_[hint(address)] == 0) return {};
        std::lock_guard lock(mutex_);
        auto found = blocks_.find(address);
        if (found == blocks_.end()) return {};
        auto block = std::move(found->second);
        blocks_.erase(found);
        --hints_[hint(address)];
        block.owner->used -= block.size;
        return block;
    }

private:
    static constexpr std::size_t hint_count = 1 << 14;
    static std::size_t hint(void* address) {
        auto bits = reinterpret_cast<std::uintptr_t>(address) >> 4;
        return (bits ^ (bits >> 14) ^ (bits >> 28)) % hint_count;
    }
    std::array<std::atomic<std::uint32_t>, hint_count> hints_{};  ///< how many are held of each hash
    std::mutex mutex_;
    std::unordered_map<void*, Block> blocks_;
};
Blocks& blocks() {
    static auto* kept = new Blocks;  // Python frees until the process ends
    return *kept;
}

bool fits(std::int64_t more) {
    if (!current) return true;
    auto& meter = **current;
    if (meter.budget <= 0 || meter.used + more <= meter.budget) return true;
    meter.refused = true;
    return false;
}
void* counted(void* address, std::size_t size) {
    if (address && current) blocks().put(address, {*current, static_cast<std::int64_t>(size)});
    return address;
}

void* raw_malloc(void*, std::size_t size) {
    return fits(static_cast<std::int64_t>(size)) ? counted(raw.malloc(raw.ctx, size), size) : nullptr;
}
void* raw_calloc(void*, std::size_t items, std::size_t size) {
    if (size != 0 && items > static_cast<std::size_t>(PY_SSIZE_T_MAX) / size) return nullptr;
    auto all = items * size;
    return fits(static_cast<std::int64_t>(all)) ? counted(raw.calloc(raw.ctx, items, size), all) : nullptr;
}
void* raw_realloc(void*, void* address, std::size_t size) {
    // Taken out first: as soon as it has moved, its address may be another thread's.
    auto before = blocks().take(address);
    void* moved = fits(static_cast<std::int64_t>(size)) ? raw.realloc(raw.ctx, address, size) : nullptr;
    if (!moved) {
        if (before.owner) blocks().put(address, std::move(before));
        return nullptr;
    }
    if (current) return counted(moved, size);
    if (before.owner) blocks().put(moved, {std::move(before.owner), static_cast<std::int64_t>(size)});
    return moved;
}
void raw_free(void*, void* address) {
    blocks().take(address);
    raw.free(raw.ctx, address);
}

void* arena_alloc(void*, std::size_t size) {
    return fits(static_cast<std::int64_t>(size)) ? counted(arenas.alloc(arenas.ctx, size), size) : nullptr;
}
void arena_free(void*, void* arena, std::size_t size) {
    blocks().take(arena);
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

MeteredScope::MeteredScope(const MeterPtr& meter) : before_(current) {
    install();
    current = &meter;
}
MeteredScope::~MeteredScope() { current = before_; }

}  // namespace infrastructure_sdk::bindings
