// What a request may say of a network, and of the limits of disk and network.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "session/session_plan.hpp"
#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/json.hpp>
#include <infrastructure_sdk/session/session.hpp>

namespace infrastructure_sdk {
namespace {

using nlohmann::json;

ResourceSpec asked(const std::string& network) {
    return session_request_from_json(json::parse(R"({"user_id": "a", "resources": {"network": )" + network + "}}"))
        .resources;
}

TEST(NetworkRequest, IsAModeOrAnObjectOrNothing) {
    EXPECT_EQ(asked("null").network, std::nullopt);
    EXPECT_EQ(asked("{}").network, std::nullopt);
    EXPECT_EQ(asked(R"("internet")").network, NetworkMode::internet);
    EXPECT_EQ(asked(R"({"mode": "none", "bridge": null})").network, NetworkMode::none);
    EXPECT_EQ(asked(R"({"mode": "bridge", "bridge": "br0"})").network, NetworkMode::bridge);
    EXPECT_EQ(asked(R"({"mode": "bridge", "bridge": "br0"})").bridge, "br0");
}

TEST(NetworkRequest, WhatIsWrongIsNamed) {
    struct Row {
        const char* network;
        const char* field;
    };
    const Row rows[] = {
        {R"("internt")", "network.mode"},
        {R"({"mode": ["none"]})", "mode"},
        {R"(7)", "resources.network"},
        {R"(["none"])", "resources.network"},
        {R"({"mode": "none", "colour": "red"})", "resources.network.colour"},
        {R"("bridge")", "resources.network.bridge"},
        {R"({"mode": "bridge", "bridge": "br0,fd=3"})", "resources.network.bridge"},
        {R"({"mode": "bridge", "bridge": "a234567890123456"})", "resources.network.bridge"},
        {R"({"mode": "internet", "bridge": "br0"})", "resources.network.bridge"},
        {R"({"bridge": "br0"})", "resources.network.bridge"},
    };
    for (const auto& row : rows) {
        try {
            asked(row.network);
            ADD_FAILURE() << row.network;
        } catch (const Error& error) {
            EXPECT_EQ(error.errc(), Errc::validation) << row.network;
            EXPECT_EQ(error.context().at("field"), row.field) << row.network;
        }
    }
}

TEST(NetworkRequest, IsKeptWithTheSession) {
    Session session;
    session.id = "s-1";
    EXPECT_EQ(session_from_json(json(session)).network, std::nullopt);
    session.network = NetworkMode::bridge;
    session.bridge = "br0";
    auto again = session_from_json(json(session));
    EXPECT_EQ(again.network, NetworkMode::bridge);
    EXPECT_EQ(again.bridge, "br0");
    // Records of older owners have none.
    auto old = json(session);
    old["resources"].erase("network");
    EXPECT_EQ(session_from_json(old).network, std::nullopt);
}

ResourceSpec limited(const std::string& resources) {
    return session_request_from_json(json::parse(R"({"user_id": "a", "resources": )" + resources + "}")).resources;
}

TEST(LimitsRequest, MayAskForLessThanTheTemplateAllows) {
    Template source;
    source.name = "t";
    source.limits.disk_iops = 500;
    EXPECT_EQ(limits_of(limited("{}"), source), source.limits);
    auto limits =
        limits_of(limited(R"({"disk_iops": 200, "disk_bandwidth": "50Mi", "network_bandwidth": "1Mi"})"), source);
    EXPECT_EQ(limits.disk_iops, 200u);
    EXPECT_EQ(limits.disk_bytes_per_second, 50u << 20);
    EXPECT_EQ(limits.network_bytes_per_second, 1u << 20);
    const std::pair<const char*, const char*> wrong[] = {
        {R"({"disk_iops": 501})", "resources.disk_iops"},
        {R"({"disk_iops": "500m"})", "resources.disk_iops"},
        {R"({"disk_iops": 0})", "resources.disk_iops"},
        {R"({"disk_iops": "11M"})", "resources.disk_iops"},
        {R"({"disk_bandwidth": "1Ki"})", "resources.disk_bandwidth"},
        {R"({"network_bandwidth": "2Ti"})", "resources.network_bandwidth"},
        {R"({"network_bandwidth": [1]})", "resources.network_bandwidth"},
    };
    for (const auto& [resources, field] : wrong) {
        try {
            limits_of(limited(resources), source);
            ADD_FAILURE() << resources;
        } catch (const Error& error) {
            EXPECT_EQ(error.errc(), Errc::validation) << resources;
            EXPECT_EQ(error.context().at("field"), field);
        }
    }
}

TEST(LimitsRequest, AreKeptWithTheSession) {
    Session session;
    session.id = "s-1";
    EXPECT_EQ(session_from_json(json(session)).limits, std::nullopt);
    session.limits = VmLimits{0, 5, 6, 7};
    EXPECT_EQ(session_from_json(json(session)).limits, session.limits);
}

}  // namespace
}  // namespace infrastructure_sdk
