#include "providers/qemu/memory_stream.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

namespace infrastructure_sdk::qemu {
namespace {

// What the kernel may keep of it between the two; it takes what it allows.
constexpr int socket_buffer_bytes = 1 << 20;
constexpr off_t flush_bytes = 8 << 20;

[[noreturn]] void fail(Errc errc, const std::string& what) {
    throw Error(errc, what + ": " + std::strerror(errno),
                {{"reason", errno == ENOSPC || errno == EDQUOT ? "DiskFull" : "MemoryStreamFailed"}});
}

void write_all(int file, Bytes bytes) {
    while (!bytes.empty()) {
        auto put = ::write(file, bytes.data(), bytes.size());
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) fail(Errc::store, "the memory file cannot be written; is the disk full?");
        bytes = bytes.subspan(static_cast<std::size_t>(put));
    }
}

/// False when the receiver is gone. No signal is raised, whatever the process does with SIGPIPE.
bool send_all(int socket, Bytes bytes) {
    while (!bytes.empty()) {
        auto put = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return false;
        bytes = bytes.subspan(static_cast<std::size_t>(put));
    }
    return true;
}

/// Fills the buffer unless the end comes before.
std::size_t fill(int fd, std::span<std::uint8_t> buffer) {
    std::size_t have = 0;
    while (have < buffer.size()) {
        auto got = ::read(fd, buffer.data() + have, buffer.size() - have);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) fail(Errc::provider, "a VM's memory cannot be read");
        if (got == 0) break;
        have += static_cast<std::size_t>(got);
    }
    return have;
}

}  // namespace

void seal_into(int from, int file, SealedStream& stream) try {
    std::vector<std::uint8_t> plain(plain_chunk_bytes);
    off_t written = 0, flushed = 0;
    auto put = [&](Bytes bytes) {
        write_all(file, bytes);
        written += static_cast<off_t>(bytes.size());
        if (written - flushed < flush_bytes) return;
        // A hint, so that little is left to write when the file is complete.
        (void)::sync_file_range(file, flushed, written - flushed, SYNC_FILE_RANGE_WRITE);
        flushed = written;
    };
    put(bytes_of(stream.header()));
    while (!stream.complete()) put(stream.seal({plain.data(), fill(from, plain)}));
} catch (...) {
    ::shutdown(from, SHUT_RDWR);
    throw;
}

void open_into(int file, int to, SealedStream& stream) try {
    std::vector<std::uint8_t> sealed(sealed_chunk_bytes);
    auto size = fill(file, std::span(sealed).first(sealed_header_bytes));
    if (!std::equal(sealed.begin(), sealed.begin() + static_cast<std::ptrdiff_t>(size), stream.header().begin(),
                    stream.header().end(), [](auto a, auto b) { return a == static_cast<std::uint8_t>(b); }))
        throw Error(Errc::provider, "a sealed stream is not used: it is not the one that was saved last for this VM",
                    {{"reason", "NotAuthentic"}});
    for (bool wanted = true; !stream.complete();) {
        auto plain = stream.open({sealed.data(), fill(file, sealed)});
        wanted = wanted && send_all(to, plain);
    }
    ::shutdown(to, SHUT_WR);
} catch (...) {
    ::shutdown(to, SHUT_RDWR);
    throw;
}

MemoryStream::MemoryStream(const Environment& environment, Direction direction, int file, const Secret& key,
                           const StreamIdentity& identity)
    : environment_(environment),
      direction_(direction),
      file_(file),
      stream_(key, identity),
      changed_(environment.executor) {
    int pair[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        fail(Errc::internal, "a socket pair cannot be made");
    ours_ = pair[0];
    theirs_ = pair[1];
    for (int fd : pair) {
        ::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &socket_buffer_bytes, sizeof socket_buffer_bytes);
        ::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &socket_buffer_bytes, sizeof socket_buffer_bytes);
    }
}

MemoryStream::~MemoryStream() {
    given();
    ::close(ours_);
}

void MemoryStream::given() {
    if (int fd = std::exchange(theirs_, -1); fd >= 0) ::close(fd);
}

void MemoryStream::start(std::shared_ptr<MemoryStream> self, TaskGroup& tasks) {
    self->started_ = true;
    tasks.spawn(self->environment_.logger, "carry a VM's memory", work(self));
}

void MemoryStream::stop() { ::shutdown(ours_, SHUT_RDWR); }

void MemoryStream::transfer() {
    if (direction_ == Direction::to_file) seal_into(ours_, file_, stream_);
    else open_into(file_, ours_, stream_);
}

Task<void> MemoryStream::work(std::shared_ptr<MemoryStream> self) {
    auto carry = [self] {
        try {
            self->transfer();
        } catch (...) {
            return std::current_exception();
        }
        return std::exception_ptr();
    };
    self->failure_ = co_await run_blocking(self->environment_.blocking, carry);
    self->done_ = true;
    self->changed_.notify_all();
}

Task<void> MemoryStream::wait(Call call) {
    while (started_ && !done_) {
        check(call, *environment_.clock, "carrying a VM's memory");
        co_await changed_.wait(*environment_.clock, call);
    }
}

}  // namespace infrastructure_sdk::qemu
