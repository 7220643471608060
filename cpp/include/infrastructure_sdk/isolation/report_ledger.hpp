#pragma once
// Where reports are kept, signed and chained.

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <infrastructure_sdk/environment.hpp>
#include <infrastructure_sdk/isolation/isolation.hpp>
#include <infrastructure_sdk/store/store.hpp>

namespace infrastructure_sdk {

struct KeptReport {
    std::string report_id;
    std::string session_id;
    std::uint64_t sequence = 0;
    std::string digest;  ///< SHA-256 of `envelope`, hex
    std::string key_id;
    WallTime created_at;
    std::string verdict;
    double lower = 0;
    double upper = 100;
    std::string envelope;  ///< the signed text, one line
};

struct ReportLedgerOptions {
    std::string key_directory;
    std::string boot_id;
    /// The last reports of each session; older ones are removed. At least 1.
    std::size_t kept_reports = 50;
};

/// Signs every report with the installation's key and keeps it in the store: when `keep` completes it is on disk.
/// Used on the Environment's executor only.
class ReportLedger {
public:
    ReportLedger(Environment environment, std::shared_ptr<Store> store, ReportLedgerOptions options);
    ~ReportLedger();

    /// Loads the signing key, or makes the first one; a key that is gone is replaced, which is logged. Before any other
    /// call.
    /// @throws Error(store), Error(permission_denied) when others may read the key.
    Task<void> open();

    /// @throws Error(store), Error(cancelled), Error(timeout)
    Task<KeptReport> keep(IsolationReport report, Call call);
    /// @throws Error(not_found)
    Task<KeptReport> get(std::string report_id);
    /// The kept reports of a session, oldest first; empty when there is none.
    Task<std::vector<KeptReport>> history(std::string session_id);
    /// A file for `verify_reports`: the rotations of keys, then the kept reports, a line each.
    Task<std::string> chain(std::string session_id);
    /// Removes the reports of every session whose last report is older than `before`, but for those in `running`. Where
    /// its chain ended stays, so that a copy of the reports is still checked against an anchor. Gives their number.
    /// @throws Error(store)
    Task<std::size_t> forget(std::set<std::string> running, WallTime before);
    /// A signed head record of these sessions (empty = of all): kept elsewhere, it shows what was cut off.
    /// @throws Error(not_found) when a session has no report.
    Task<std::string> anchor(std::vector<std::string> session_ids);
    /// All keys that this installation has signed with, oldest first, as PEM.
    Task<std::string> public_keys();
    /// Signs with a new key from now on; the old one signs that and is removed. Gives the new key's id.
    Task<std::string> rotate(Call call);

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace infrastructure_sdk
