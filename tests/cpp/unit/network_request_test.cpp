// What a request may say of a network.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

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

}  // namespace
}  // namespace infrastructure_sdk
