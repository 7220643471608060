#pragma once
// What was collected of one VM, and the judgement of a check upon it.

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <infrastructure_sdk/isolation/isolation.hpp>
#include <infrastructure_sdk/vm/evidence_source.hpp>

namespace infrastructure_sdk::isolation {

/// Facts by name. Names of the collectors: proc.threads [status text of every thread], proc.ksm (ksm_stat text),
/// proc.limits (text), proc.files [{fd,target,inode,writable,regular}], proc.locks (text), proc.listeners [target of
/// every listening TCP socket], file.directory [{name,mode,uid,is_directory,has_acl}], sys.ksm_run (text),
/// sys.core_pattern (text); and those of EvidenceSource. neighbours.macs: [{session, macs}] or why a neighbour could
/// not be looked at.
class Facts {
public:
    void add(Fact fact) { facts_[fact.name] = std::move(fact); }
    /// nullptr when it could not be had; `why()` tells.
    const nlohmann::json* value(const std::string& name) const;
    std::string why(const std::string& name) const;
    /// Evidence from a fact that was had.
    Evidence evidence(const CheckDefinition& check, const std::string& name, const std::string& excerpt) const;

    std::string session_id;
    std::string epoch;

private:
    std::map<std::string, Fact> facts_;
    mutable std::map<std::string, nlohmann::json> parsed_;
};

/// The text under `key` of what should be an object; nullopt when it is anything else. Never throws.
std::optional<std::string> text_at(const nlohmann::json& object, const char* key);

/// How far what was seen from there is believed, 0..1; at 0 it supports no pass.
double vantage_factor(const std::string& vantage);

using Judge = Finding (*)(const CheckDefinition&, const Facts&);

struct Check {
    CheckDefinition definition;
    Judge judge;
};
/// Every check with its judgement; `check_catalogue()` shows the definitions.
const std::vector<Check>& checks();

Finding judge_cmp_01(const CheckDefinition&, const Facts&);
Finding judge_run_01(const CheckDefinition&, const Facts&);
Finding judge_run_02(const CheckDefinition&, const Facts&);
Finding judge_run_03(const CheckDefinition&, const Facts&);
Finding judge_run_07(const CheckDefinition&, const Facts&);
Finding judge_sto_03(const CheckDefinition&, const Facts&);
Finding judge_sto_05(const CheckDefinition&, const Facts&);
Finding judge_mem_01(const CheckDefinition&, const Facts&);
Finding judge_mem_06(const CheckDefinition&, const Facts&);
Finding judge_net_12(const CheckDefinition&, const Facts&);

/// What raises the lower bound most, first. Pure.
std::vector<std::string> recommendations(const std::vector<Finding>& findings, WallTime now);

}  // namespace infrastructure_sdk::isolation
