// A policy in Python inside a program that found the library with find_package.

#include <cstdio>
#include <thread>

#include <infrastructure_sdk/policy/python_host.hpp>
#include <infrastructure_sdk/policy/python_interpreter.hpp>

int main() {
    using namespace infrastructure_sdk;
    PythonInterpreter python;
    PolicyText text{
        "from infrastructure_sdk.policy import policy, keep\n"
        "@policy('idle')\n"
        "def patient(request):\n"
        "    return keep(request.session.user_id)\n",
        "patient.py"};
    auto host = make_inline_python_policy(text, PythonPolicyOptions());
    IdleRequest request;
    request.session.user_id = "alice";
    auto answer = host->decide_now(request, "");
    // And on a thread that Python does not know, which ends before Python does.
    std::thread([&] {
        for (int i = 0; i < 2; ++i) answer = host->decide_now(request, "");
    }).join();
    if (!answer || answer->decision != PolicyDecision(SessionDecision{SessionAction::keep, "alice", std::nullopt})) {
        std::fprintf(stderr, "the policy did not decide: %s\n", answer ? answer->detail.c_str() : "no answer");
        return 1;
    }
    return 0;
}
