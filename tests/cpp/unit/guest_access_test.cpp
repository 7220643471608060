// What is said to a guest's agent and made of its answers: input, folders, commands.

#include <gmock/gmock.h>

#include "providers/qemu/guest_files.hpp"
#include "providers/qemu/guest_process.hpp"
#include "providers/qemu/input_messages.hpp"
#include "providers/qemu/usernet.hpp"

namespace infrastructure_sdk::qemu {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(InputMessages, AreQemus) {
    using Kind = InputEvent::Kind;
    EXPECT_EQ(input_message({Kind::key_down, "ret", 0, 0}),
              json::parse(R"({"events": [{"type": "key", "data": {"down": true,
                               "key": {"type": "qcode", "data": "ret"}}}]})"));
    EXPECT_EQ(input_message({Kind::button_up, "left", 0, 0}),
              json::parse(R"({"events": [{"type": "btn", "data": {"down": false, "button": "left"}}]})"));
    EXPECT_EQ(input_message({Kind::move_to, "", 7, 9}),
              json::parse(R"({"events": [{"type": "abs", "data": {"axis": "x", "value": 7}},
                                         {"type": "abs", "data": {"axis": "y", "value": 9}}]})"));
}

TEST(KeyboardStatus, IsTheLowestBitOfAnAnswerOfThatForm) {
    EXPECT_TRUE(is_keyboard_busy("portb[0x0064] = 0x1d\r\n"));
    EXPECT_FALSE(is_keyboard_busy("portb[0x0064] = 0x1c\r\n"));
    for (const char* other : {"", "unknown command: 'i'", "portb[0x0065] = 0x1d", "portb[0x0064]"})
        EXPECT_FALSE(is_keyboard_busy(other)) << other;
    EXPECT_FALSE(is_keyboard_busy(json(1)));
}

TEST(Usernet, IsReadLineByLine) {
    auto lines = parse_usernet(
        "Hub -1 (net0):\r\n"
        "  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n"
        "  TCP[SYN_SENT]      12       127.0.0.1 42235       10.0.2.15  7000     0     0\r\n"
        "  UDP[236 sec]       13       10.0.2.15 53           10.0.2.3    53     0     0\r\n"
        "  TCP[HOST_FORWARD]  11       127.0.0.1 99999       10.0.2.15  7000     0     0\r\n"
        "  TCP[HOST_FORWARD]  11       127.0.0.1 42235       10.0.2.15  7000     0     0\r\n");
    ASSERT_EQ(lines.size(), 2u) << "no port is 99999";
    EXPECT_EQ(lines[0].state, "SYN_SENT");
    EXPECT_EQ(lines[1].state, "HOST_FORWARD");
    EXPECT_EQ(lines[1].source_port, 42235);
    EXPECT_EQ(lines[1].target, "10.0.2.15");
    EXPECT_EQ(lines[1].target_port, 7000);
    EXPECT_TRUE(parse_usernet("TCP]x[").empty());
}

TEST(ForwardTarget, IsWhatTheGuestSaysOfItsOwnCardWithinQemusNetwork) {
    const std::string card = "02:00:00:00:00:01", first = "10.0.2.15";
    auto of = [&](std::vector<std::string> addresses, const std::string& mac) {
        GuestInterface found;
        found.mac_address = mac;
        found.addresses = std::move(addresses);
        return forward_target({found}, card);
    };
    EXPECT_EQ(of({"fe80::1/64", "10.0.2.17/24"}, card), "10.0.2.17");
    EXPECT_EQ(of({"10.0.2.17/24"}, "02:00:00:00:00:02"), first) << "another card";
    EXPECT_EQ(forward_target({}, card), first);
    for (const char* wrong : {"10.0.2.2/24", "10.0.2.3", "10.0.2.0", "10.0.2.255/24", "10.0.2.", "10.0.2.017",
                              "10.0.2.17;x", "10.0.2.1000", "10.0.2.-5", "127.0.0.1/8", "10.0.20.17", ""})
        EXPECT_EQ(of({wrong}, card), first) << wrong;
}

std::string listing(const std::string& names, const std::string& lines) { return names + std::string(1, '\0') + lines; }
const std::string nul(1, '\0');

TEST(Listing, PairsNamesWithWhatTheyAre) {
    auto entries = parse_listing(listing("b c" + nul + "a\nb" + nul, "81a4 5 100\n41ed 4096 200\n"));
    ASSERT_TRUE(entries);
    ASSERT_EQ(entries->size(), 2u);
    EXPECT_EQ((*entries)[0].name, "a\nb");
    EXPECT_EQ((*entries)[0].type, "directory");
    EXPECT_EQ((*entries)[0].mode, 0755u);
    EXPECT_EQ((*entries)[1].type, "file");
    EXPECT_EQ((*entries)[1].size_bytes, 5u);
    EXPECT_EQ((*entries)[1].modified_at, 100);
    EXPECT_TRUE(parse_listing(nul).value().empty());
}

TEST(Listing, IsRefusedWhenTheHalvesDoNotFit) {
    const auto names = "a" + nul + "b" + nul;
    for (const auto& wrong : {std::string(), std::string("a"), names, listing(names, "81a4 5 1\n"),
                              listing(names, "81a4 5 1\n81a4 5 1\n81a4 5 1\n"), listing(names, "81a4 5 1\nx y z\n"),
                              listing("../etc" + nul, "81a4 5 1\n"), listing(".." + nul, "81a4 5 1\n")})
        EXPECT_FALSE(parse_listing(wrong)) << wrong;
}

ExecRequest request(std::vector<std::string> words, std::string folder = {}, std::string user = {}) {
    ExecRequest wanted;
    wanted.arguments = std::move(words);
    wanted.working_directory = std::move(folder);
    wanted.user = std::move(user);
    return wanted;
}

TEST(GuestCommands, ArePlainWithoutUserAndFolder) {
    EXPECT_THAT(run_words(request({"ls", "$(x)"}), "n"), ElementsAre("ls", "$(x)"));
}

TEST(GuestCommands, HandWordsOnAsWords) {
    auto words = run_words(request({"ls", "'; rm -rf /"}, "/a b", "alice"), "nonce");
    ASSERT_EQ(words.size(), 9u);
    EXPECT_EQ(words[0], "sh");
    EXPECT_THAT(words[2], testing::Not(HasSubstr("rm -rf")));
    EXPECT_THAT(std::vector<std::string>(words.begin() + 4, words.end()),
                ElementsAre("nonce", "/a b", "alice", "ls", "'; rm -rf /"));
    auto followed = follow_words(request({"ls"}), "nonce", "/tmp/x");
    EXPECT_THAT(std::vector<std::string>(followed.begin() + 4, followed.end()),
                ElementsAre("/tmp/x", "nonce", "", "", "ls"));
}

Errc code_of(const ExecRequest& wanted) {
    try {
        exec_arguments(wanted, wanted.arguments, true);
    } catch (const Error& error) {
        return error.errc();
    }
    return Errc{};
}

TEST(GuestCommands, RefuseWrongFoldersAndUsers) {
    EXPECT_EQ(code_of(request({"ls"}, "/tmp", "alice.b-c_1")), Errc{});
    EXPECT_EQ(code_of(request({})), Errc::validation);
    EXPECT_EQ(code_of(request({""})), Errc::validation);
    for (const auto& folder : {std::string("tmp"), std::string("/a\0b", 4)})
        EXPECT_EQ(code_of(request({"ls"}, folder)), Errc::validation) << folder;
    for (const auto& user :
         {std::string("-l"), std::string("a b"), std::string("a;b"), std::string("a\nb"), std::string(65, 'a')})
        EXPECT_EQ(code_of(request({"ls"}, "", user)), Errc::validation) << user;
}

TEST(GuestCommands, RefusalsAreOursByTheirNonce) {
    const auto wanted = request({"nope"}, "/gone", "nobody");
    EXPECT_NO_THROW(raise_refusal("other user\n", "nonce", wanted));
    EXPECT_NO_THROW(raise_refusal("", "nonce", wanted));
    for (auto [said, field] :
         {std::pair{"nonce user\n", "user"}, {"nonce directory\n", "cwd"}, {"nonce command\n", "arguments"}}) {
        try {
            raise_refusal(said, "nonce", wanted);
            ADD_FAILURE() << said;
        } catch (const Error& error) {
            EXPECT_EQ(error.errc(), Errc::not_found);
            EXPECT_EQ(error.context().at("field"), field);
        }
    }
}

TEST(GuestCommands, EndWithACodeOrASignal) {
    EXPECT_EQ(exit_code_of(json::parse(R"({"exited": false})")), std::nullopt);
    EXPECT_EQ(exit_code_of(json::parse(R"({"exited": true, "exitcode": 3})")), 3);
    EXPECT_EQ(exit_code_of(json::parse(R"({"exited": true, "signal": 9})")), 137);
    EXPECT_THROW(exit_code_of(json::parse("[]")), Error);
}

}  // namespace
}  // namespace infrastructure_sdk::qemu
