#include "isolation/probes/verdict.hpp"

#include "isolation/readings.hpp"

namespace infrastructure_sdk::isolation {

void judge_probe(Look& look, const std::string& fact) {
    auto attempts = look.need(fact, read_probe);
    if (!attempts) return;
    bool uncounted = false;
    for (const auto& attempt : *attempts) {
        const auto& target = attempt.target;
        if (!attempt.control) look.blind(target + ": the same attempt where it is allowed failed too");
        else if (attempt.received) look.fault(target + " was reached");
        else if (!attempt.left_port) look.blind(target + ": the attempt never left");
        // A refusal of the target itself says that only the port was closed.
        else if (attempt.answer == "target") look.fault(target + " answered: it can be reached");
        else if (attempt.answer == "none" && attempt.drops && *attempt.drops != attempt.attempts)
            look.blind(target + ": " + std::to_string(*attempt.drops) + " of " + std::to_string(attempt.attempts) +
                       " attempts were counted as dropped");
        uncounted = uncounted || !attempt.drops;
    }
    look.saw(fact, std::to_string(attempts->size()) + " attempts" + (uncounted ? ", without a drop counter" : ""));
}

void need_gate(Look& look) {
    auto gate = look.need("probe.gate", read_probe);
    std::size_t enforced = 0;
    for (const auto& attempt : gate ? *gate : std::vector<Attempt>()) {
        if (attempt.control && !attempt.received && attempt.left_port) ++enforced;
        else look.blind("could not look: nothing shows that rules are enforced here (" + attempt.target + ")");
    }
    look.saw("probe.gate", std::to_string(enforced) + " denied attempts were blocked");
}

}  // namespace infrastructure_sdk::isolation
