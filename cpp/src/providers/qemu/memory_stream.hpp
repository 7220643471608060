#pragma once
// A VM's memory on its way between QEMU and a sealed file, through a socket pair: it is never on disk in the clear.

#include <exception>
#include <functional>
#include <memory>
#include <string>

#include "core/async_tools.hpp"
#include "core/sealed_stream.hpp"

namespace infrastructure_sdk::qemu {

/// Seals what arrives on the socket `from` into `file`, until its end. Blocking. On failure the socket is shut down, so
/// that the sender ends too. @throws Error(store), naming a full disk
void seal_into(int from, int file, SealedStream& stream);

/// Opens `file` into the socket `to`, each chunk after it was found authentic; then ends the socket. Blocking.
/// A receiver that has enough is no failure: the file is checked to its end. @throws Error(provider,
/// reason=NotAuthentic)
void open_into(int file, int to, SealedStream& stream);

/// One of the two on a thread of its own, seen from the executor.
class MemoryStream {
public:
    enum class Direction { to_file, from_file };

    /// @param file stays the caller's. @throws Error(internal)
    MemoryStream(const Environment& environment, Direction direction, int file, const Secret& key,
                 const StreamIdentity& identity);
    ~MemoryStream();
    MemoryStream(const MemoryStream&) = delete;
    MemoryStream& operator=(const MemoryStream&) = delete;

    /// QEMU's end of the socket pair. It stays open here until `given`.
    int end() const noexcept { return theirs_; }
    /// QEMU has its end: from now on its death is seen as the end of the stream.
    void given();
    /// Begins. The owner of `self` joins `tasks`.
    static void start(std::shared_ptr<MemoryStream> self, TaskGroup& tasks);
    /// Ends it early; harmless afterwards.
    void stop();
    /// Until the thread is done. @throws Error(timeout), Error(cancelled)
    Task<void> wait(Call call);
    bool failed() const noexcept { return failure_ != nullptr; }
    /// Throws what the thread met; nothing when it did well.
    void rethrow() const {
        if (failure_) std::rethrow_exception(failure_);
    }
    /// After `wait`. It pins every byte of the file.
    std::string digest() const { return stream_.digest(); }

private:
    static Task<void> work(std::shared_ptr<MemoryStream> self);
    void transfer();

    Environment environment_;
    Direction direction_;
    int file_;
    SealedStream stream_;
    int ours_ = -1;
    int theirs_ = -1;
    bool started_ = false;
    bool done_ = false;
    std::exception_ptr failure_;
    Signal changed_;
};
using MemoryStreamPtr = std::shared_ptr<MemoryStream>;

}  // namespace infrastructure_sdk::qemu
