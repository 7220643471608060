#pragma once
// Waivers: signed decisions to live with a failure for a time. Each is an in-toto statement in a DSSE envelope, a line
// of a waivers file. Pure and thread-safe.

#include <string>
#include <vector>

#include <infrastructure_sdk/isolation/isolation.hpp>
#include <infrastructure_sdk/secret.hpp>

namespace infrastructure_sdk {

/// One line of a waivers file, with its end. @param private_key an Ed25519 key in PEM form.
/// @throws Error(validation) naming `private_key`, or the waiver's field that is empty or names no check.
std::string sign_waiver(const Waiver& waiver, const Secret& private_key);

/// Every waiver of a file, ended ones too. @param name of the file, for messages. @param trusted_keys texts with
/// Ed25519 public keys in PEM form. @throws Error(validation) naming the file and line that is not a waiver signed by
/// one of them, or `trusted_keys`.
std::vector<Waiver> read_waivers(const std::string& text, const std::string& name,
                                 const std::vector<std::string>& trusted_keys);

/// Each failure of the report that a waiver is for becomes a waived one, and the waiver is listed. The score and the
/// verdict stay: they count a waived failure like any other.
void apply_waivers(IsolationReport& report, const std::vector<Waiver>& waivers, WallTime now);

}  // namespace infrastructure_sdk
