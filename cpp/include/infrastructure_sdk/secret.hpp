#pragma once
// A value that prints as "***" everywhere. There is no operator<<.

#include <string>

namespace infrastructure_sdk {

class Secret {
public:
    Secret() = default;
    explicit Secret(std::string value);
    Secret(const Secret&);
    Secret(Secret&&) noexcept;
    Secret& operator=(Secret) noexcept;
    /// Overwrites the bytes.
    ~Secret();

    /// The value itself. Call it only where the value is used.
    const std::string& reveal() const noexcept { return value_; }
    bool empty() const noexcept { return value_.empty(); }
    static const char* redacted() noexcept { return "***"; }
    friend bool operator==(const Secret&, const Secret&);  ///< constant time for equal lengths

private:
    std::string value_;
};

}  // namespace infrastructure_sdk
