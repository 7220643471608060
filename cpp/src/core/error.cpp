#include <infrastructure_sdk/error.hpp>

#include <array>

namespace infrastructure_sdk {
namespace {

struct Row {
    Errc code;
    const char* name;
    bool retryable;
};
constexpr std::array<Row, 22> rows{{{Errc::configuration, "configuration", false},
                                    {Errc::validation, "validation", false},
                                    {Errc::not_found, "not_found", false},
                                    {Errc::conflict, "conflict", true},
                                    {Errc::invalid_transition, "invalid_transition", false},
                                    {Errc::admission_denied, "admission_denied", false},
                                    {Errc::quota_exceeded, "quota_exceeded", true},
                                    {Errc::budget_exceeded, "budget_exceeded", false},
                                    {Errc::capacity, "capacity", true},
                                    {Errc::timeout, "timeout", true},
                                    {Errc::not_ready, "not_ready", true},
                                    {Errc::provider, "provider", false},
                                    {Errc::vm_provisioning, "vm_provisioning", true},
                                    {Errc::session_creation, "session_creation", true},
                                    {Errc::unsupported, "unsupported", false},
                                    {Errc::isolation, "isolation", false},
                                    {Errc::policy, "policy", false},
                                    {Errc::authentication, "authentication", false},
                                    {Errc::permission_denied, "permission_denied", false},
                                    {Errc::store, "store", false},
                                    {Errc::cancelled, "cancelled", true},
                                    {Errc::internal, "internal", false}}};

const Row& row(Errc code) noexcept {
    for (const auto& candidate : rows)
        if (candidate.code == code) return candidate;
    return rows.back();
}

class Category final : public std::error_category {
public:
    const char* name() const noexcept override { return "infrastructure_sdk"; }
    std::string message(int value) const override { return row(static_cast<Errc>(value)).name; }
};

}  // namespace

const std::error_category& error_category() noexcept {
    static const Category category;
    return category;
}

std::error_code make_error_code(Errc code) noexcept { return {static_cast<int>(code), error_category()}; }
const char* name_of(Errc code) noexcept { return row(code).name; }

bool is_retryable(std::error_code code) noexcept {
    return code.category() == error_category() && row(static_cast<Errc>(code.value())).retryable;
}

Error::Error(Errc code, std::string message, ErrorContext context)
    : std::system_error(make_error_code(code)),
      errc_(code),
      message_(std::move(message)),
      context_(std::move(context)) {}

Error& Error::with_remote_message(std::string text) {
    remote_message_ = std::move(text);
    return *this;
}

Error& Error::with(std::string key, std::string value) {
    context_[std::move(key)] = std::move(value);
    return *this;
}

}  // namespace infrastructure_sdk
