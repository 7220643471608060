#include "support/store_suite.hpp"

namespace infrastructure_sdk::test {
namespace {

std::shared_ptr<Store> make(const Environment& environment, const std::string&) {
    return make_memory_store(environment);
}

INSTANTIATE_TEST_SUITE_P(Memory, StoreSuite, testing::Values(StoreMaker{"memory", make}));

}  // namespace
}  // namespace infrastructure_sdk::test
