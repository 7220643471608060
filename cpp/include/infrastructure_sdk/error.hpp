#pragma once
// Errors. Told apart by code, never by message text.

#include <map>
#include <string>
#include <system_error>

namespace infrastructure_sdk {

/// What went wrong. The names (see `name_of`) are stable and are the Python `code`.
enum class Errc {
    configuration = 1,   ///< a configuration source is wrong
    validation,          ///< an argument is wrong; context has `field`, `value`, `allowed`
    not_found,           ///< no such session, VM, template, image
    conflict,            ///< a precondition (version, owner, uniqueness) no longer holds
    invalid_transition,  ///< the verb is illegal in the current state
    admission_denied,    ///< refused by admission for a reason not listed below
    quota_exceeded,      ///< a limit of a user or tenant
    budget_exceeded,     ///< a money limit
    capacity,            ///< the host or cluster is full
    timeout,             ///< a deadline passed
    not_ready,           ///< a channel did not answer; context has `channel`
    provider,            ///< the provider failed
    vm_provisioning,     ///< a VM could not be made or booted
    session_creation,    ///< a session could not be made; the cause is in the message
    unsupported,         ///< the provider lacks a capability; context has `capability`
    isolation,           ///< an isolation gate refused
    policy,              ///< a policy script failed
    authentication,
    permission_denied,
    store,      ///< the state directory could not be read or written
    cancelled,  ///< the caller gave up
    internal,   ///< a defect of ours
};

const std::error_category& error_category() noexcept;
std::error_code make_error_code(Errc code) noexcept;

/// Stable lower-case name, e.g. "not_found".
const char* name_of(Errc code) noexcept;

/// True when the same call may succeed later without any change by the caller.
bool is_retryable(std::error_code code) noexcept;

using ErrorContext = std::map<std::string, std::string>;

/// The one exception type of the library. Values in the context are redacted by the thrower.
class Error : public std::system_error {
public:
    Error(Errc code, std::string message, ErrorContext context = {});

    Errc errc() const noexcept { return errc_; }
    /// Our own sentence, without the category's text.
    const std::string& message() const noexcept { return message_; }
    const char* what() const noexcept override { return message_.c_str(); }
    const ErrorContext& context() const noexcept { return context_; }
    bool retryable() const noexcept { return is_retryable(code()); }

    /// Text from a guest, QEMU or a server: untrusted, kept apart from our message.
    const std::string& remote_message() const noexcept { return remote_message_; }
    Error& with_remote_message(std::string text);
    Error& with(std::string key, std::string value);

private:
    Errc errc_;
    std::string message_;
    ErrorContext context_;
    std::string remote_message_;
};

}  // namespace infrastructure_sdk

template <>
struct std::is_error_code_enum<infrastructure_sdk::Errc> : std::true_type {};
