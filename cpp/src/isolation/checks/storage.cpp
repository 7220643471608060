// Checks on disks and files: STO-03, STO-05.

#include <algorithm>

#include "isolation/facts.hpp"
#include "isolation/procfs.hpp"

namespace infrastructure_sdk::isolation {

Finding judge_sto_03(const CheckDefinition& check, const Facts& facts) {
    auto files = facts.value("proc.files");
    if (!files || !files->is_array() || files->empty()) return Finding::unknown(check, facts.why("proc.files"));
    auto table = facts.value("proc.locks");
    auto locked = table && table->is_string() ? parse_locked_inodes(table->get<std::string>()) : std::nullopt;
    if (!locked) return Finding::unknown(check, facts.why("proc.locks"));
    std::vector<std::string> open, disks;
    for (const auto& file : *files) {
        if (!file.is_object() || !file.contains("inode") || !file["inode"].is_number_unsigned() ||
            !file.contains("writable") || !file["writable"].is_boolean() || !file.contains("target") ||
            !file["target"].is_string())
            return Finding::unknown(check, facts.why("proc.files"));
        auto target = file["target"].get<std::string>();
        if (!file["writable"].get<bool>() || !target.ends_with(".qcow2")) continue;
        disks.push_back(target);
        if (std::find(locked->begin(), locked->end(), file["inode"].get<std::uint64_t>()) == locked->end())
            open.push_back(target);
    }
    auto seen = facts.evidence(check, "proc.locks",
                               std::to_string(disks.size() - open.size()) + " of " + std::to_string(disks.size()) +
                                   " writable disk descriptors locked");
    auto held = facts.evidence(check, "proc.files", disks.empty() ? "no writable disk is open" : disks.front());
    if (disks.empty()) return Finding::not_applicable(check, {held}, "the VM has no writable disk");
    if (!open.empty()) return Finding::fail(check, {seen, held}, open.front() + " is open for writing without a lock");
    return Finding::pass(check, {seen, held}, "every writable disk is locked against a second user");
}

Finding judge_sto_05(const CheckDefinition& check, const Facts& facts) {
    auto directory = facts.value("file.directory");
    auto uid = facts.value("process.uid");
    if (!directory || !directory->is_array() || directory->empty())
        return Finding::unknown(check, facts.why("file.directory"));
    if (!uid || !uid->is_object() || !uid->contains("expected_uid") || !(*uid)["expected_uid"].is_number_unsigned())
        return Finding::unknown(check, facts.why("process.uid"));
    auto expected = (*uid)["expected_uid"].get<std::uint64_t>();
    std::vector<std::string> faults;
    std::size_t looked = 0;
    bool itself = false;
    for (const auto& file : *directory) {
        if (!file.is_object() || !file.contains("name") || !file["name"].is_string() || !file.contains("mode") ||
            !file["mode"].is_number_unsigned() || !file.contains("uid") || !file["uid"].is_number_unsigned() ||
            !file.contains("has_acl") || !file["has_acl"].is_boolean())
            return Finding::unknown(check, facts.why("file.directory"));
        auto name = file["name"].get<std::string>();
        auto mode = file["mode"].get<unsigned>();
        itself = itself || name == ".";
        bool guest_data = name == "." || name.ends_with(".qcow2") || name.starts_with("memory") || name == "serial.log";
        if (!guest_data) continue;
        ++looked;
        if ((mode & 0077) != 0) faults.push_back(name + " is open to others");
        if (file["uid"].get<std::uint64_t>() != expected)
            faults.push_back(name + " belongs to uid " + std::to_string(file["uid"].get<std::uint64_t>()));
        if (file["has_acl"].get<bool>()) faults.push_back(name + " has an ACL");
    }
    if (!itself) return Finding::unknown(check, "could not look at file.directory: the directory itself is missing");
    auto seen =
        facts.evidence(check, "file.directory", std::to_string(looked) + " entries, uid " + std::to_string(expected));
    if (!faults.empty()) return Finding::fail(check, {seen}, faults.front());
    return Finding::pass(check, {seen},
                         "its directory and files are open to uid " + std::to_string(expected) + " only");
}

}  // namespace infrastructure_sdk::isolation
