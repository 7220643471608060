// Keys and pointer: texts, names and places as events.

#include <random>

#include <gmock/gmock.h>

#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/vm/input.hpp>

namespace infrastructure_sdk {
namespace {

using Kind = InputEvent::Kind;
using testing::HasSubstr;

/// "+shift +a -a -shift"
std::string shown(const std::vector<InputEvent>& events) {
    std::string text;
    for (const auto& event : events) {
        text += text.empty() ? "" : " ";
        switch (event.kind) {
            case Kind::key_down: text += "+" + event.name; break;
            case Kind::key_up: text += "-" + event.name; break;
            case Kind::button_down: text += "(" + event.name; break;
            case Kind::button_up: text += event.name + ")"; break;
            case Kind::move_to: text += "@" + std::to_string(event.x) + "," + std::to_string(event.y); break;
        }
    }
    return text;
}

template <class F>
std::string refusal(F work) {
    try {
        work();
    } catch (const Error& error) {
        EXPECT_EQ(error.errc(), Errc::validation);
        return error.message();
    }
    return "was allowed";
}

TEST(Typing, UsesTheLayoutsKeys) {
    EXPECT_EQ(shown(typing("aB\n", "us")), "+a -a +shift +b -b -shift +ret -ret");
    EXPECT_EQ(shown(typing("z@/", "us")), "+z -z +shift +2 -2 -shift +slash -slash");
    EXPECT_EQ(shown(typing("z@/", "de")), "+y -y +alt_r +q -q -alt_r +shift +7 -7 -shift");
    EXPECT_EQ(shown(typing("ß", "de")), "+minus -minus");
    EXPECT_EQ(typing("", "us").size(), 0u);
}

TEST(Typing, KnowsEveryPrintableCharacterOfAscii) {
    std::string all;
    for (char c = 0x20; c < 0x7f; ++c) all += c;
    EXPECT_GT(typing(all, "us").size(), 2 * all.size());
    // Of the German layout two are dead keys.
    for (char c : all) {
        auto why = refusal([&] { typing(std::string(1, c), "de"); });
        EXPECT_EQ(why == "was allowed", c != '^' && c != '`') << c << ": " << why;
    }
}

TEST(Typing, LeavesNoKeyPressed) {
    std::mt19937 random(7);
    for (int round = 0; round < 200; ++round) {
        std::string text;
        for (int i = 0; i < 20; ++i) text += static_cast<char>(0x20 + random() % 0x5f);
        std::multiset<std::string> held;
        for (const auto& event : typing(text, "us")) {
            if (event.kind == Kind::key_down) held.insert(event.name);
            else ASSERT_EQ(held.erase(event.name), 1u) << text;
        }
        EXPECT_TRUE(held.empty()) << text;
    }
}

TEST(Typing, RefusesWhatItCannotType) {
    EXPECT_THAT(refusal([] { typing("ab\x07", "us"); }), HasSubstr("U+0007 (character 3 of 3)"));
    EXPECT_THAT(refusal([] { typing("é", "us"); }), HasSubstr("U+00E9"));
    EXPECT_THAT(refusal([] { typing("a\xff", "us"); }), HasSubstr("UTF-8"));
    EXPECT_THAT(refusal([] { typing("\xe2\x82", "us"); }), HasSubstr("UTF-8"));
    EXPECT_THAT(refusal([] { typing("a", "dvorak"); }), HasSubstr("us, de"));
    EXPECT_THAT(refusal([] { typing(std::string(4097, 'a'), "us"); }), HasSubstr("4096"));
    EXPECT_THAT(refusal([] { typing(std::string("a\0b", 3), "de"); }), HasSubstr("U+0000"));
}

TEST(Chords, HoldAndReleaseInOrder) {
    EXPECT_EQ(shown(chord("Ctrl+Alt+Delete")), "+ctrl +alt +delete -delete -alt -ctrl");
    EXPECT_EQ(shown(chord("f5")), "+f5 -f5");
    EXPECT_EQ(shown(chord("enter")), "+ret -ret");
    EXPECT_THAT(refusal([] { chord("ctrl+delte"); }), HasSubstr("did you mean 'delete'?"));
    for (const char* wrong : {"", "+", "ctrl+", "ctrl++a", "a b"})
        EXPECT_THAT(refusal([&] { chord(wrong); }), HasSubstr("keys")) << wrong;
    EXPECT_THAT(refusal([] { chord("a+b+c+d+e+f+g+h+i"); }), HasSubstr("8 keys"));
}

TEST(Pointing, ReachesEveryCornerAndRoundsToThePixel) {
    const DisplaySize size{1024, 768};
    auto at = [&](std::uint32_t x, std::uint32_t y) {
        MouseAction action;
        action.at = {x, y};
        return pointing(action, size).front();
    };
    EXPECT_EQ(at(0, 0).x, 0u);
    EXPECT_EQ(at(1023, 767), (InputEvent{Kind::move_to, "", input_axis_maximum, input_axis_maximum}));
    for (std::uint32_t x = 0; x < size.width; ++x)
        EXPECT_EQ((at(x, 0).x * (size.width - 1) + input_axis_maximum / 2) / input_axis_maximum, x);
    MouseAction one;
    one.at = {0, 0};
    EXPECT_EQ(shown(pointing(one, {1, 1})), "@0,0");
}

TEST(Pointing, ClicksDragsAndScrolls) {
    MouseAction action;
    action.action = "click";
    action.count = 2;
    EXPECT_EQ(shown(pointing(action, {})), "(left left) (left left)");
    action = {};
    action.button = "right";
    action.action = "press";
    EXPECT_EQ(shown(pointing(action, {})), "(right");
    action.action = "release";
    EXPECT_EQ(shown(pointing(action, {})), "right)");
    action = {};
    action.scroll = -2;
    EXPECT_EQ(shown(pointing(action, {})), "(wheel-up wheel-up) (wheel-up wheel-up)");
}

TEST(Pointing, RefusesWhatIsNotThere) {
    auto with = [](auto change) {
        MouseAction action;
        change(action);
        return refusal([&] { pointing(action, {100, 50}); });
    };
    EXPECT_THAT(with([](auto& a) { a.at = {100, 0}; }), HasSubstr("100x50"));
    EXPECT_THAT(with([](auto& a) { a.at = {0, 50}; }), HasSubstr("100x50"));
    EXPECT_THAT(with([](auto& a) { a.button = "thumb"; }), HasSubstr("left, middle, right"));
    EXPECT_THAT(with([](auto& a) { a.action = "stroke"; }), HasSubstr("click"));
    EXPECT_THAT(with([](auto& a) { a.count = 4; }), HasSubstr("1 to 3"));
    EXPECT_THAT(with([](auto& a) { a.scroll = INT32_MIN; }), HasSubstr("-100"));
}

TEST(PngSize, IsReadOrRefused) {
    std::string png("\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x04\0\0\0\x03\0", 24);
    EXPECT_EQ(png_size(png), (DisplaySize{1024, 768}));
    for (std::size_t cut = 0; cut < png.size(); ++cut) EXPECT_EQ(png_size(png.substr(0, cut)), std::nullopt);
    png[16] = '\x7f';
    EXPECT_EQ(png_size(png), std::nullopt) << "no screen is that wide";
}

}  // namespace
}  // namespace infrastructure_sdk
