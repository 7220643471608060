// What a verifier takes and what it catches: no store, no clock, no network.

#include <gtest/gtest.h>

#include <gmock/gmock.h>

#include <algorithm>
#include <set>

#include "core/base64.hpp"
#include "core/seeded_random.hpp"
#include "support/signed_reports.hpp"
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

using nlohmann::json;
using test::joined;
using test::SignedChain;
using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::IsSupersetOf;
using testing::SizeIs;
using Kind = ReportProblemKind;
using Lines = std::vector<std::string>;

VerifyRequest request_of(const std::vector<Lines>& files) {
    VerifyRequest request;
    for (const auto& lines : files)
        request.files.push_back({"file" + std::to_string(request.files.size()), joined(lines)});
    request.trusted_keys = {public_pem(test::public_half(1))};
    return request;
}

std::set<Kind> kinds(const Verification& verification) {
    std::set<Kind> found;
    for (const auto& problem : verification.problems) found.insert(problem.kind);
    return found;
}

std::set<Kind> kinds_in(const Lines& lines) { return kinds(verify_reports(request_of({lines}))); }

std::string anchor_of(const std::vector<isolation::AnchoredChain>& chains, std::uint8_t key = 1) {
    return SignedChain::signed_by(key, isolation::anchor_statement(chains, test::noon)) + "\n";
}

/// The envelope again with another payload, signed by the trusted key.
std::string resigned(const std::string& envelope, const std::function<void(json&)>& change) {
    auto statement = json::parse(parse_dsse(envelope)->payload);
    change(statement);
    return SignedChain::signed_by(1, statement.dump());
}

TEST(SignedReport, AWholeChainVerifiesAndTellsWhatItSays) {
    auto chain = SignedChain("s-a").of(3);
    auto found = verify_reports(request_of({chain.envelopes}));
    EXPECT_TRUE(found.ok()) << json(found).dump(2);
    ASSERT_THAT(found.reports, SizeIs(3));
    EXPECT_EQ(found.reports[1].session_id, "s-a");
    EXPECT_EQ(found.reports[1].report_id, "s-a/r2");
    EXPECT_EQ(found.reports[1].sequence, 2u);
    EXPECT_EQ(found.reports[1].where, "file0:2");
    EXPECT_EQ(found.reports[1].verdict, "not_isolated");
    EXPECT_EQ(found.reports[1].digest, sha256_hex(chain.envelopes[1]));
    EXPECT_EQ(found.reports[1].key_id, key_id_of(test::public_half(1)));
    EXPECT_THAT(found.notes, Contains(HasSubstr("without an anchor")));
}

TEST(SignedReport, TheStatementIsAnInTotoStatementOfTheSubject) {
    auto chain = SignedChain("s-a").of(1);
    auto envelope = parse_dsse(chain.envelopes[0]);
    ASSERT_TRUE(envelope);
    EXPECT_EQ(envelope->payload_type, "application/vnd.in-toto+json");
    auto statement = json::parse(envelope->payload);
    EXPECT_EQ(statement["_type"], "https://in-toto.io/Statement/v1");
    EXPECT_EQ(statement["predicateType"], "urn:infrastructure-sdk:isolation-report:v1");
    EXPECT_EQ(statement["subject"][0]["name"], "session/s-a");
    EXPECT_EQ(statement["subject"][0]["digest"]["sha256"],
              sha256_hex(R"({"instance_epoch":"boot/4711/99/uuid","session_id":"s-a","vm_id":"vm of s-a"})"));
    EXPECT_EQ(statement["predicate"]["report"]["findings"].size(), check_catalogue().size());
}

TEST(SignedReport, OneReportVerifiesByItselfWithANote) {
    auto chain = SignedChain("s-a").of(3);
    auto found = verify_reports(request_of({{chain.envelopes[1]}}));
    EXPECT_TRUE(found.ok());
    EXPECT_THAT(found.notes, Contains(HasSubstr("number 2")));
    auto request = request_of({{chain.envelopes[1]}});
    request.complete = true;
    EXPECT_THAT(kinds(verify_reports(request)), Contains(Kind::truncated));
}

TEST(SignedReport, ReplayReorderGapAndForkAreCaught) {
    const auto e = SignedChain("s-a").of(4).envelopes;
    EXPECT_THAT(kinds_in({e[0], e[1], e[1]}), Contains(Kind::replayed));
    EXPECT_THAT(kinds_in({e[0], e[1], e[2], e[0]}), Contains(Kind::replayed));
    EXPECT_THAT(kinds_in({e[0], e[2], e[1]}), IsSupersetOf({Kind::reordered, Kind::gap}));
    EXPECT_THAT(kinds_in({e[1], e[0]}), Contains(Kind::reordered));
    EXPECT_THAT(kinds_in({e[0], e[2]}), Contains(Kind::gap));
    EXPECT_THAT(kinds_in({e[1], e[2]}), Contains(Kind::truncated));
    auto other = SignedChain("s-a");
    other.add(test::make_report("s-a", "another", test::noon));
    EXPECT_THAT(kinds_in({e[0], other.envelopes[0]}), Contains(Kind::forked));
    EXPECT_THAT(kinds_in({other.envelopes[0], e[1]}), Contains(Kind::gap));
    // Over files too.
    EXPECT_TRUE(verify_reports(request_of({{e[0], e[1]}, {e[2], e[3]}})).ok());
    EXPECT_THAT(kinds(verify_reports(request_of({{e[2], e[3]}, {e[0], e[1]}}))), Contains(Kind::reordered));
}

TEST(SignedReport, SwappingBetweenSessionsIsCaught) {
    const auto a = SignedChain("s-a").of(2).envelopes, b = SignedChain("s-b").of(2).envelopes;
    EXPECT_TRUE(verify_reports(request_of({a, b})).ok());
    EXPECT_THAT(kinds_in({a[0], b[1]}), Contains(Kind::foreign_session));
    EXPECT_THAT(kinds_in({b[0], a[1]}), Contains(Kind::foreign_session));
    auto request = request_of({b});
    request.session_id = "s-a";
    EXPECT_THAT(kinds(verify_reports(request)), Contains(Kind::foreign_session));
    // Another name upon signed bytes is another signature.
    auto envelope = *parse_dsse(a[0]);
    auto statement = json::parse(envelope.payload);
    statement["predicate"]["report"]["session_id"] = "s-b";
    envelope.payload = statement.dump();
    EXPECT_THAT(kinds_in({dsse_text(envelope)}), Contains(Kind::bad_signature));
    // And a subject that is not the report's is refused whoever signed it.
    EXPECT_THAT(kinds_in({resigned(a[0], [](json& s) { s["predicate"]["report"]["session_id"] = "s-b"; })}),
                Contains(Kind::malformed));
}

TEST(SignedReport, AnAnchorShowsACutOffTail) {
    auto chain = SignedChain("s-a").of(3);
    auto whole = request_of({chain.envelopes});
    whole.anchor = anchor_of({chain.head()});
    whole.complete = true;
    auto found = verify_reports(whole);
    EXPECT_TRUE(found.ok()) << json(found).dump(2);
    EXPECT_THAT(found.notes, IsEmpty());

    auto cut = request_of({{chain.envelopes[0], chain.envelopes[1]}});
    EXPECT_TRUE(verify_reports(cut).ok());  // nothing in the files themselves shows it
    cut.anchor = whole.anchor;
    EXPECT_THAT(kinds(verify_reports(cut)), Contains(Kind::truncated));
    auto beheaded = request_of({{chain.envelopes[1], chain.envelopes[2]}});
    beheaded.anchor = whole.anchor;
    EXPECT_THAT(kinds(verify_reports(beheaded)), Contains(Kind::truncated));

    auto longer = request_of({chain.of(5).envelopes});
    longer.anchor = whole.anchor;
    EXPECT_TRUE(verify_reports(longer).ok());
    SignedChain rewritten("s-a");
    rewritten.add(test::make_report("s-a", "rewritten", test::noon));
    auto forged = request_of({rewritten.of(3).envelopes});
    forged.anchor = whole.anchor;
    EXPECT_THAT(kinds(verify_reports(forged)), Contains(Kind::forked));
}

TEST(SignedReport, AnAnchorOfMoreSessionsNotesOrRefusesTheMissing) {
    auto a = SignedChain("s-a").of(1), b = SignedChain("s-b").of(1);
    auto request = request_of({a.envelopes});
    request.anchor = anchor_of({a.head(), b.head()});
    auto found = verify_reports(request);
    EXPECT_TRUE(found.ok());
    EXPECT_THAT(found.notes, Contains(HasSubstr("s-b")));
    request.complete = true;
    EXPECT_THAT(kinds(verify_reports(request)), Contains(Kind::truncated));
    request.anchor = anchor_of({a.head()}, 9);
    EXPECT_THAT(kinds(verify_reports(request)), Contains(Kind::untrusted));
    request.anchor = a.envelopes[0];
    EXPECT_THAT(kinds(verify_reports(request)), Contains(Kind::malformed));
}

TEST(SignedReport, KeysRotateForwardOnly) {
    SignedChain chain("s-a");
    chain.of(2);
    auto rotation = chain.rotate(2);
    chain.of(4);
    Lines lines = chain.envelopes;
    lines.insert(lines.begin(), rotation);
    EXPECT_TRUE(verify_reports(request_of({lines})).ok());
    // Without the rotation the new key is nobody's.
    EXPECT_THAT(kinds_in(chain.envelopes), Contains(Kind::untrusted));
    // A rotation that no trusted key signed leads nowhere.
    SignedChain stranger("s-a", 7);
    EXPECT_THAT(kinds_in({stranger.rotate(2), chain.envelopes[2]}), Contains(Kind::untrusted));
    // Who stole the old key cannot go on with it.
    chain.use_key(1);
    chain.add();
    lines.push_back(chain.envelopes.back());
    EXPECT_THAT(kinds_in(lines), Contains(Kind::retired_key));
}

TEST(SignedReport, AKeyIsReplacedOnce) {
    SignedChain chain("s-a");
    chain.of(2);
    Lines lines{chain.rotate(2)};
    chain.of(3);
    // Who stole the first key replaces it by one of his own, which is as young as the real one.
    lines.push_back(SignedChain("s-a").rotate(9));
    SignedChain forged = chain;
    forged.use_key(9);
    forged.add();
    lines.insert(lines.end(), forged.envelopes.begin(), forged.envelopes.end());
    EXPECT_THAT(kinds_in(lines), AllOf(Contains(Kind::forked), Contains(Kind::untrusted)));
    // The same rotation twice is one.
    Lines twice{lines.front(), lines.front()};
    twice.insert(twice.end(), chain.envelopes.begin(), chain.envelopes.end());
    EXPECT_TRUE(verify_reports(request_of({twice})).ok());
}

TEST(SignedReport, AKeyThatHasAYoungerOneRotatesToThatOneOnly) {
    SignedChain chain("s-a");
    chain.of(2);
    auto rotation = chain.rotate(2);
    chain.of(3);
    auto both = [](const Lines& lines) {
        auto request = request_of({lines});
        request.trusted_keys = {public_pem(test::public_half(1)) + public_pem(test::public_half(2))};
        return kinds(verify_reports(request));
    };
    EXPECT_THAT(both(chain.envelopes), IsEmpty());
    Lines lines{rotation};
    lines.insert(lines.end(), chain.envelopes.begin(), chain.envelopes.end());
    EXPECT_THAT(both(lines), IsEmpty());
    // Who stole the first key leaves the true rotation away.
    auto forged = chain;
    forged.envelopes.pop_back();
    forged.use_key(9);
    forged.add();
    forged.envelopes.insert(forged.envelopes.begin(), SignedChain("s-a").rotate(9));
    EXPECT_THAT(both(forged.envelopes), AllOf(Contains(Kind::forked), Contains(Kind::untrusted)));
}

TEST(SignedReport, ClocksDoNotGoBack) {
    SignedChain chain("s-a");
    chain.of(2);
    chain.wall_step = -std::chrono::hours(1);
    auto back = chain;
    back.add();
    auto same_boot = verify_reports(request_of({back.envelopes}));
    EXPECT_TRUE(same_boot.ok());  // somebody set the clock; the other clock tells the order
    EXPECT_THAT(same_boot.notes, Contains(HasSubstr("set back")));
    chain.boot = "another boot";
    chain.add();
    EXPECT_THAT(kinds_in(chain.envelopes), Contains(Kind::clock));
}

TEST(SignedReport, OldReportsAreStaleWhenAnAgeIsAskedFor) {
    auto request = request_of({SignedChain("s-a").of(1).envelopes});
    request.maximum_age = std::chrono::hours(1);
    request.now = test::noon + std::chrono::minutes(30);
    EXPECT_TRUE(verify_reports(request).ok());
    request.now = test::noon + std::chrono::hours(2);
    EXPECT_THAT(kinds(verify_reports(request)), Contains(Kind::stale));
}

TEST(SignedReport, AScoreThatItsFindingsDoNotMakeIsCaughtWhoeverSignedIt) {
    auto first = SignedChain("s-a").add();
    auto with = [&](const std::function<void(json&)>& change) {
        return kinds_in({resigned(first, [&](json& s) { change(s["predicate"]["report"]); })});
    };
    EXPECT_THAT(with([](json&) {}), IsEmpty());
    EXPECT_THAT(with([](json& r) { r["lower"] = 99.0; }), Contains(Kind::contradictory));
    EXPECT_THAT(with([](json& r) { r["verdict"] = "isolated"; }), Contains(Kind::contradictory));
    EXPECT_THAT(with([](json& r) { r["coverage"] = 1.0; }), Contains(Kind::contradictory));
    EXPECT_THAT(with([](json& r) { r["findings"][0]["evidence"] = json::array(); }), Contains(Kind::contradictory));
    EXPECT_THAT(with([](json& r) { r["findings"][0]["evidence"][0]["session_id"] = "s-b"; }),
                Contains(Kind::contradictory));
    EXPECT_THAT(with([](json& r) { r["findings"][1]["status"] = "waived"; }), Contains(Kind::contradictory));
    EXPECT_THAT(with([](json& r) { r["findings"][1]["status"] = "fine"; }), Contains(Kind::malformed));
    EXPECT_THAT(with([](json& r) { r.erase("findings"); }), Contains(Kind::malformed));
    EXPECT_THAT(with([](json& r) { r["findings"].push_back(r["findings"][0]); }), Contains(Kind::contradictory));
}

TEST(SignedReport, EveryChangedByteIsCaught) {
    const auto whole = joined(SignedChain("s-a").of(2).envelopes);
    auto request = request_of({{}});
    request.anchor = anchor_of({SignedChain("s-a").of(2).head()});
    auto verifies = [&](std::string text) {
        request.files[0].text = std::move(text);
        return verify_reports(request).ok();
    };
    ASSERT_TRUE(verifies(whole));
    SeededRandom random(20);
    auto below = [&](std::size_t end) { return static_cast<std::size_t>(random.below(end)); };
    for (int round = 0; round < 120; ++round) {
        auto text = whole;
        auto at = below(text.size() - 1);  // the last line's end may be missing
        switch (below(4)) {
            case 0: text[at] = static_cast<char>(text[at] ^ (1 << below(8))); break;
            case 1: text.erase(at, 1 + below(40)); break;
            case 2: text.insert(at, 1, static_cast<char>(below(256))); break;
            case 3: text.resize(at); break;
        }
        if (text == whole || text + "\n" == whole) continue;
        EXPECT_FALSE(verifies(text)) << "round " << round << " at " << at;
    }
}

TEST(SignedReport, EveryChangeOfWhichReportsAreThereIsCaught) {
    auto a = SignedChain("s-a").of(4), b = SignedChain("s-b").of(4);
    auto request = request_of({{}});
    request.anchor = anchor_of({a.head(), b.head()});
    SeededRandom random(21);
    auto pick = [&](std::size_t end) { return static_cast<std::ptrdiff_t>(random.below(end)); };
    int changed = 0;
    for (int round = 0; round < 30; ++round) {
        auto lines = a.envelopes;
        for (auto steps = 1 + pick(3); steps > 0 && !lines.empty(); --steps) {
            auto at = lines.begin() + pick(lines.size());
            switch (pick(4)) {
                case 0: lines.erase(at); break;
                case 1: lines.insert(at, a.envelopes[static_cast<std::size_t>(pick(4))]); break;
                case 2: std::swap(*at, lines[static_cast<std::size_t>(pick(lines.size()))]); break;
                case 3: *at = b.envelopes[static_cast<std::size_t>(pick(4))]; break;
            }
        }
        request.files[0].text = joined(lines);
        // One report is checked by itself, and the newest one alone is no lie.
        bool honest = lines == a.envelopes || lines == Lines{a.envelopes.back()} || lines == Lines{b.envelopes.back()};
        EXPECT_EQ(verify_reports(request).ok(), honest) << "round " << round;
        changed += !honest;
    }
    EXPECT_GT(changed, 15);
}

TEST(SignedReport, OtherSpellingsOfAnEnvelopeAreRefused) {
    auto line = SignedChain("s-a").add();
    EXPECT_THAT(kinds_in({" " + line}), Contains(Kind::malformed));
    EXPECT_THAT(kinds_in({json::parse(line).dump(2)}), Contains(Kind::malformed));
    auto document = json::parse(line);
    document["signatures"].push_back(document["signatures"][0]);
    EXPECT_THAT(kinds_in({document.dump()}), Contains(Kind::malformed));
    document["signatures"] = json::array();
    EXPECT_THAT(kinds_in({document.dump()}), Contains(Kind::malformed));
    EXPECT_THAT(kinds_in({"{}"}), Contains(Kind::malformed));
    EXPECT_THAT(kinds_in({}), Contains(Kind::malformed));
    EXPECT_THAT(kinds_in({"\xff\xfe"}), Contains(Kind::malformed));
}

TEST(SignedReport, AnotherPayloadTypeIsAnotherSignature) {
    auto envelope = *parse_dsse(SignedChain("s-a").add());
    envelope.payload_type = "text/plain";
    EXPECT_THAT(kinds_in({dsse_text(envelope)}), Contains(Kind::malformed));
    // The type is signed with the payload.
    EXPECT_EQ(dsse_pae("http://example.com/HelloWorld", "hello world"),
              "DSSEv1 29 http://example.com/HelloWorld 11 hello world");
}

TEST(SignedReport, ARequestThatCannotBeCheckedNamesTheField) {
    auto field_of = [](VerifyRequest request) {
        try {
            verify_reports(request);
        } catch (const Error& error) {
            EXPECT_EQ(error.errc(), Errc::validation);
            return error.context().at("field");
        }
        return std::string("none");
    };
    auto good = request_of({SignedChain("s-a").of(1).envelopes});
    EXPECT_EQ(field_of(good), "none");
    auto bad = good;
    bad.trusted_keys.clear();
    EXPECT_EQ(field_of(bad), "trusted_keys");
    bad.trusted_keys = {"nonsense"};
    EXPECT_EQ(field_of(bad), "trusted_keys");
    bad.trusted_keys = {private_pem(test::secret_key(1)).reveal()};
    EXPECT_EQ(field_of(bad), "trusted_keys");
    bad = good;
    bad.files.clear();
    EXPECT_EQ(field_of(bad), "files");
    bad = good;
    bad.maximum_age = std::chrono::hours(1);
    EXPECT_EQ(field_of(bad), "maximum_age");
}

TEST(Ed25519, SignsAsTheStandardDoes) {
    // RFC 8032, 7.1, test 2.
    Ed25519Key secret{0x4c, 0xcd, 0x08, 0x9b, 0x28, 0xff, 0x96, 0xda, 0x9d, 0xb6, 0xc3, 0x46, 0xec, 0x11, 0x4e, 0x0f,
                      0x5b, 0x8a, 0x31, 0x9f, 0x35, 0xab, 0xa6, 0x24, 0xda, 0x8c, 0xf6, 0xed, 0x4f, 0xb8, 0xa6, 0xfb};
    auto signature = ed25519_sign(secret, "\x72");
    EXPECT_EQ(base64_encode(signature),
              "kqAJqfDUyrhyDoILX2QlQKKye1QWUD+Ps3YiI+vbadoIWsHkPhWZbkWPNhPQ8R2MOHsurrQwKu6wDSkWErsMAA==");
    EXPECT_TRUE(ed25519_verify(ed25519_public_key(secret), "\x72", signature));
    EXPECT_FALSE(ed25519_verify(ed25519_public_key(secret), "\x73", signature));
    EXPECT_FALSE(ed25519_verify(ed25519_public_key(secret), "\x72", signature.substr(1)));
}

TEST(Ed25519, KeysAreReadAndWrittenAsPem) {
    auto secret = test::secret_key(5);
    auto half = test::public_half(5);
    EXPECT_EQ(parse_private_pem(private_pem(secret), "key"), secret);
    EXPECT_EQ(parse_public_pem(public_pem(half), "key"), std::vector{half});
    EXPECT_EQ(parse_public_pem(public_pem(half) + "\n" + public_pem(test::public_half(6)), "key").size(), 2u);
    for (std::string text :
         {"", "-----BEGIN PUBLIC KEY-----\n", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"})
        EXPECT_THROW(parse_public_pem(text, "key"), Error) << text;
    try {
        parse_private_pem(Secret("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"), "key");
        FAIL() << "it was taken";
    } catch (const Error& error) {
        EXPECT_EQ(error.context().at("field"), "key");
        EXPECT_EQ(std::string(error.what()).find("c2VjcmV0"), std::string::npos);
    }
}

}  // namespace
}  // namespace infrastructure_sdk
