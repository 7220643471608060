#pragma once
// Durable state: records with versions, an ordered event log, both changed by atomic batches.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <infrastructure_sdk/deadline.hpp>
#include <infrastructure_sdk/environment.hpp>
#include <infrastructure_sdk/event.hpp>

namespace infrastructure_sdk {

/// A JSON document under (kind, id). Versions count up from 1 with every write.
struct Record {
    std::string kind;  ///< "session", "intent", ...
    std::string id;
    std::uint64_t version = 0;
    std::string json;
};

struct Put {
    std::string kind;
    std::string id;
    std::string json;
    /// The version that must be stored now: 0 = must not exist, nullopt = any.
    std::optional<std::uint64_t> expected_version;
};

struct Erase {
    std::string kind;
    std::string id;
};

struct Batch {
    std::vector<Put> puts;
    std::vector<Erase> erases;
    std::vector<Event> events;
};

struct CommitResult {
    std::vector<std::uint64_t> versions;         ///< one for each put, in order
    std::vector<std::uint64_t> event_sequences;  ///< one for each event, in order
};

struct EventQuery {
    std::uint64_t after = 0;             ///< only sequences above this
    std::optional<std::string> subject;  ///< only this subject
    std::size_t limit = 1000;
};

/// Calls come from the Environment's executor and complete there.
class Store {
public:
    virtual ~Store() = default;
    /// All or nothing; when it completes the batch is on disk.
    /// @throws Error(conflict) when an expected version does not hold (nothing is written), Error(store) when the disk
    /// is full, read-only or corrupt.
    virtual Task<CommitResult> commit(Batch batch) = 0;
    virtual Task<std::optional<Record>> get(std::string kind, std::string id) = 0;
    /// Ordered by id, ids strictly after `after`.
    virtual Task<std::vector<Record>> list(std::string kind, std::string after = {}, std::size_t limit = 1000) = 0;
    virtual Task<std::vector<Event>> events(EventQuery query) = 0;
    /// False = it never gives a document back, so none needs to be written: the json of a put may be empty.
    virtual bool keeps_documents() const { return true; }
    /// Waits for what was accepted, then lets go of the files. Blocking; call it once, from no engine thread.
    virtual void close() = 0;
};

/// SQLite in WAL mode with one writer thread's worth of group commit and synchronous=FULL.
/// The schema version is checked and migrated at opening.
/// @throws Error(store)
std::shared_ptr<Store> make_sqlite_store(const Environment& environment, const std::string& path);
/// For tests; same semantics.
std::shared_ptr<Store> make_memory_store(const Environment& environment);

/// Held while this process owns a state directory; released by the kernel when the process dies.
class OwnerLock {
public:
    /// Creates the directory (0711) if need be.
    /// @throws Error(conflict) naming the holder (context: `pid`, `command`, `since`) when a live process owns it;
    /// Error(permission_denied) or Error(store) when the directory cannot be used.
    static OwnerLock acquire(const std::string& state_directory, const Clock& clock);
    OwnerLock(OwnerLock&&) noexcept;
    OwnerLock& operator=(OwnerLock&&) noexcept;
    ~OwnerLock();

private:
    explicit OwnerLock(int fd) : fd_(fd) {}
    int fd_ = -1;
};

}  // namespace infrastructure_sdk
