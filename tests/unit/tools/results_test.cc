// What is made of samples, and their journey through JSON.
#include "tools/bench/results.hh"

#include <cmath>
#include <limits>
#include <random>
#include <stdexcept>

#include "tests/catch.hh"

using namespace burin::tools::bench;

namespace {

constexpr double absent = std::numeric_limits<double>::quiet_NaN();
const row up{"throughput", "throughput.up.1", "up, 1 stream", std::string(bits_per_second), "", {}};

results two_columns() {
    results all;
    all.seconds = 0.5;
    all.pairs = 3;
    all.conditions = {{"kernel", "Linux 6.1"}, {"a \"name\"", "<b>\xC2\xB5</b>"}};
    all.columns = {{"no tunnel", true, {}}, {"burin", false, {"client", "server"}}};
    for (unsigned pair = 0; pair < 3; ++pair) {
        all.add(up, 0, pair, 10e9 * (pair + 1));
        if (pair != 1) all.add(up, 1, pair, 4e9 * (pair + 1));
    }
    curve& c = all.curves.emplace_back(curve{"idle", "idle", {}});
    c.lines = {make_line({std::vector<double>(40, 7)}), {}};
    return all;
}

}  // namespace

TEST_CASE("medians and ranges leave out what was not measured") {
    CHECK_FALSE(summarise({}));
    CHECK_FALSE(summarise({absent, absent}));
    const auto odd = summarise({5, absent, 1, 9});
    REQUIRE(odd);
    CHECK(odd->median == 5);
    CHECK(odd->least == 1);
    CHECK(odd->most == 9);
    CHECK(odd->count == 3);
    CHECK(summarise({4, 1, 2, 3})->median == 2.5);
}

TEST_CASE("a ratio is made within pairs, where both were measured") {
    results all = two_columns();
    const auto r = ratio(all.rows[0], 1, 0);
    REQUIRE(r);
    // Pairs one and three: 0.4 each, whatever the machine did between them.
    CHECK(r->count == 2);
    CHECK(r->median == Approx(0.4));
    CHECK(r->least == Approx(r->most));
    all.rows[0].samples[0] = {0, 0, 0};
    CHECK_FALSE(ratio(all.rows[0], 1, 0));
}

TEST_CASE("a curve ends where fewer than five values lie beyond it") {
    CHECK(make_line({}).points.empty());
    CHECK(make_line({{1, 2, 3}}).points.empty());
    std::vector<std::vector<double>> pairs(2);
    for (int value = 1; value <= 1000; ++value) pairs[value % 2].push_back(value);
    const curve::line line = make_line(pairs);
    CHECK(line.count == 1000);
    REQUIRE_FALSE(line.points.empty());
    CHECK(line.points.front().share == Approx(0.5));
    CHECK(line.points.back().share == Approx(0.995));
    for (std::size_t i = 0; i < line.points.size(); ++i) {
        const curve_point& p = line.points[i];
        CHECK(p.pooled == Approx(p.share * 1000).margin(1.5));
        CHECK(p.least <= p.most);
        CHECK(p.most - p.least <= 3);
        if (i > 0) CHECK(p.share > line.points[i - 1].share);
    }
}

TEST_CASE("shares of a curve rise and have those that people ask for") {
    const std::vector<double> shares = curve_shares();
    for (std::size_t i = 1; i < shares.size(); ++i) CHECK(shares[i] - shares[i - 1] > 1e-9);
    for (const double asked : {0.5, 0.9, 0.99, 0.999, 0.9999})
        CHECK(std::count_if(shares.begin(), shares.end(),
                            [&](double s) { return std::abs(s - asked) < 1e-9; }) == 1);
}

TEST_CASE("results are the same behind JSON") {
    const results before = two_columns();
    const std::string text = to_json(before);
    const results after = from_json(text);
    CHECK(to_json(after) == text);
    CHECK(after.seconds == 0.5);
    CHECK(after.conditions == before.conditions);
    REQUIRE(after.columns.size() == 2);
    CHECK(after.columns[1].ends == before.columns[1].ends);
    CHECK(after.columns[0].reference);
    REQUIRE(after.rows.size() == 1);
    CHECK(after.rows[0].samples[0] == before.rows[0].samples[0]);
    CHECK(std::isnan(after.rows[0].samples[1][1]));
    REQUIRE(after.curves.size() == 1);
    CHECK(after.curves[0].lines[0].count == 40);
    CHECK(after.curves[0].lines[0].points.size() == before.curves[0].lines[0].points.size());
}

TEST_CASE("names that are no UTF-8 become JSON all the same") {
    results all = two_columns();
    all.columns[1].name = "\xFF\xFEtunnel";
    CHECK(from_json(to_json(all)).columns[1].name.ends_with("tunnel"));
}

TEST_CASE("what is no text of results is refused in words") {
    const std::string good = to_json(two_columns());
    const auto refused = [](const std::string& text) {
        try {
            from_json(text);
        } catch (const std::runtime_error& e) {
            return std::string(e.what()).starts_with("not results of burin bench: ");
        }
        return false;
    };
    CHECK(refused(""));
    CHECK(refused("[]"));
    CHECK(refused("{}"));
    CHECK(refused(good.substr(0, good.size() / 2)));
    const auto with = [&](std::string_view old, std::string_view fresh) {
        std::string text = good;
        const std::size_t at = text.find(old);
        REQUIRE(at != text.npos);
        return text.replace(at, old.size(), fresh);
    };
    CHECK(refused(with("burin-bench/1", "burin-bench/2")));
    CHECK(refused(with("\"pairs\": 3", "\"pairs\": 4")));
    CHECK(refused(with("\"pairs\": 3", "\"pairs\": 1e300")));
    CHECK(refused(with("\"pairs\": 3", "\"pairs\": -3")));
    CHECK(refused(with("\"reference\": true", "\"reference\": 1")));
    CHECK(refused(with("10000000000.0", "-1")));
    CHECK(refused(with("10000000000.0", "\"1\"")));
    CHECK(refused(with("\"title\": \"up, 1 stream\"", "\"title\": 7")));
    CHECK(refused(with("\"share\": 0.5", "\"share\": 1.5")));
    CHECK(refused(with("\"share\": 0.5", "\"share\": 0.9999")));
}

TEST_CASE("cut or damaged JSON is read or refused, nothing else") {
    const std::string good = to_json(two_columns());
    const std::uint64_t seed = std::random_device{}();
    INFO("seed " << seed);
    std::mt19937_64 dice(seed);
    for (int turn = 0; turn < 300; ++turn) {
        std::string text = good;
        for (int change = 0; change < 3; ++change)
            text[dice() % text.size()] = "0123456789\"{}[],:-enul "[dice() % 23];
        try {
            to_json(from_json(text));
        } catch (const std::runtime_error&) {
        }
    }
}
