// The sender's scoreboard, by hand and against a plain array of bytes.
#include "tun/tcp_scoreboard.hh"

#include <string>
#include <vector>

#include "tests/catch.hh"

using namespace burin::tun;

namespace {

struct board_stage {
    sequence zero{0xffffffe0};  // wraps within every test
    scoreboard_pool pool;
    tcp_scoreboard board;

    ~board_stage() { board.clear(pool); }
    sequence at(std::uint32_t offset) const { return zero + offset; }
    tcp_delivery sack(std::uint32_t start, std::uint32_t end) {
        tcp_delivery news;
        board.sack(at(start), at(end), news, pool);
        return news;
    }
    void lose(std::uint32_t from, std::uint32_t upto) {
        board.judge(at(from), at(upto), pool,
                    [](sequence, sequence, const sent_range*) { return true; });
    }
    // "s10-20 l20-30 r30-40": the list, offsets from zero.
    std::string text() const {
        std::string all;
        for (std::size_t i = 0; i < board.ranges(); ++i) {
            const sent_range& range = board.at(i);
            all += (i > 0 ? " " : "") + std::string(1, "slr"[static_cast<int>(range.fate)]);
            all += std::to_string(range.start - zero) + "-" + std::to_string(range.end - zero);
        }
        return all;
    }
};

}  // namespace

TEST_CASE("SACK blocks grow together, and what they tell is told once") {
    board_stage s;
    REQUIRE(s.sack(10, 20).bytes == 10);
    REQUIRE(s.sack(30, 40).bytes == 10);
    REQUIRE(s.text() == "s10-20 s30-40");
    tcp_delivery news = s.sack(15, 35);
    REQUIRE(news.bytes == 10);
    REQUIRE(news.original);
    REQUIRE(news.original_start == s.at(20));
    REQUIRE(news.original_end == s.at(30));
    REQUIRE(s.text() == "s10-40");
    REQUIRE(s.sack(10, 40).bytes == 0);
    REQUIRE(s.board.sacked_bytes() == 30);
}

TEST_CASE("lost, repaired, lost again, acknowledged") {
    board_stage s;
    s.sack(20, 30);
    s.lose(0, 30);
    REQUIRE(s.text() == "l0-20 s20-30");
    REQUIRE(s.board.lost_bytes() == 20);
    REQUIRE(s.board.first_lost()->start == s.at(0));
    s.board.repair(s.at(0), s.at(40), 700, s.at(0), s.at(10), s.pool);
    REQUIRE(s.text() == "r0-10 l10-20 s20-30");
    s.board.repair(s.at(0), s.at(40), 700, s.at(10), s.at(20), s.pool);
    REQUIRE(s.text() == "r0-20 s20-30");
    REQUIRE(s.board.first_lost() == nullptr);
    REQUIRE(s.board.lost_bytes() == 0);
    tcp_delivery news;
    s.board.acknowledge(s.at(0), s.at(5), news, s.pool);
    REQUIRE(news.bytes == 5);
    REQUIRE(news.repaired);
    REQUIRE(news.repaired_at == 700);
    REQUIRE_FALSE(news.original);
    s.lose(5, 20);
    REQUIRE(s.text() == "l5-20 s20-30");
    news = {};
    s.board.acknowledge(s.at(5), s.at(35), news, s.pool);
    REQUIRE(news.bytes == 20);     // 5 to 20, and 30 to 35; the rest was told
    REQUIRE_FALSE(news.repaired);  // given up twice: nobody can tell which one came
    REQUIRE(news.original_start == s.at(30));
    REQUIRE(s.board.empty());
    REQUIRE(s.board.sacked_bytes() == 0);
}

TEST_CASE("what a host forgets is lost, what was only suspected is forgiven") {
    board_stage s;
    s.sack(10, 20);
    s.sack(30, 40);
    s.board.lose_all(s.at(0), s.at(50), s.pool);
    REQUIRE(s.text() == "l0-10 s10-20 l20-30 s30-40 l40-50");
    s.board.forgive(s.pool);
    REQUIRE(s.text() == "s10-20 s30-40");
    s.board.distrust(s.at(0), s.at(50), s.pool);
    REQUIRE(s.text() == "l0-50");
}

TEST_CASE("a full board refuses news, still repairs, and gives its block back") {
    board_stage s;
    std::uint32_t refused = 0;
    for (std::uint32_t i = 0; i < 400; ++i) {
        tcp_delivery news;
        if (!s.board.sack(s.at(10 * i + 5), s.at(10 * i + 10), news, s.pool)) {
            ++refused;
            REQUIRE(news.bytes == 0);
        }
    }
    REQUIRE(refused > 100);
    REQUIRE(s.pool.taken() == 1);
    const std::uint32_t known = s.board.sacked_bytes();
    // Every gap becomes a range: too many of them, so all details go rather than any byte.
    s.board.lose_all(s.at(0), s.at(4000), s.pool);
    REQUIRE(s.board.lost_bytes() + s.board.sacked_bytes() == 4000);
    REQUIRE(s.board.sacked_bytes() <= known);
    std::uint32_t repaired = 0;
    while (const sent_range* lost = s.board.first_lost()) {
        const std::uint32_t count = std::min(7u, lost->size());
        const sequence start = lost->start;
        s.board.repair(s.at(0), s.at(4000), 1, start, start + count, s.pool);
        repaired += count;
        REQUIRE(repaired < 20'000);
    }
    tcp_delivery news;
    s.board.acknowledge(s.at(0), s.at(4000), news, s.pool);
    REQUIRE(s.board.empty());
    REQUIRE(s.pool.taken() == 0);
}

TEST_CASE("without a block the board works within the flow") {
    std::vector<std::unique_ptr<scoreboard_pool::block>> all;
    board_stage s;
    while (auto block = s.pool.take()) all.push_back(std::move(block));
    REQUIRE(all.size() == scoreboard_pool::most_blocks);
    for (std::uint32_t i = 0; i < 20; ++i) s.sack(10 * i + 5, 10 * i + 10);
    REQUIRE(s.board.ranges() <= tcp_scoreboard::own_ranges);
    s.board.lose_all(s.at(0), s.at(300), s.pool);
    REQUIRE(s.board.lost_bytes() + s.board.sacked_bytes() == 300);
    for (std::uint32_t i = 0; i < 1000 && s.board.first_lost() != nullptr; ++i) {
        const sequence start = s.board.first_lost()->start;
        const std::uint32_t count = std::min(30u, s.board.first_lost()->size());
        s.board.repair(s.at(0), s.at(300), i, start, start + count, s.pool);
    }
    REQUIRE(s.board.first_lost() == nullptr);
    for (auto& block : all) s.pool.give(std::move(block));
}

TEST_CASE("the scoreboard agrees with an array of bytes") {
    std::uint32_t state = 11;
    auto next = [&](std::uint32_t bound) {
        state = state * 1664525 + 1013904223;
        return (state >> 10) % bound;
    };
    enum byte_is : char { original, sacked, lost, repaired };
    for (int round = 0; round < 400; ++round) {
        INFO("round " << round);
        board_stage s;
        constexpr std::uint32_t size = 200;
        std::vector<char> bytes(size, original);
        std::uint32_t una = 0;
        for (int step = 0; step < 40; ++step) {
            const std::uint32_t from = una + next(size - una);
            const std::uint32_t upto = std::min(size, from + 1 + next(30));
            switch (next(6)) {
                case 0:
                case 1: {
                    std::uint32_t fresh = 0;
                    for (std::uint32_t i = from; i < upto; ++i) {
                        fresh += bytes[i] != sacked;
                        bytes[i] = sacked;
                    }
                    REQUIRE(s.sack(from, upto).bytes == fresh);
                    break;
                }
                case 2:
                    s.lose(from, upto);
                    for (std::uint32_t i = from; i < upto; ++i) {
                        if (bytes[i] != sacked) bytes[i] = lost;
                    }
                    break;
                case 3: {
                    const sent_range* first = s.board.first_lost();
                    if (first == nullptr) break;
                    const auto start = static_cast<std::uint32_t>(first->start - s.zero);
                    const std::uint32_t count = 1 + next(first->size());
                    s.board.repair(s.at(una), s.at(size), static_cast<std::uint32_t>(step),
                                   s.at(start), s.at(start + count), s.pool);
                    for (std::uint32_t i = start; i < start + count; ++i) bytes[i] = repaired;
                    break;
                }
                case 4: {
                    const std::uint32_t ack = una + next(std::min(size - una, 12u));
                    std::uint32_t fresh = 0;
                    for (std::uint32_t i = una; i < ack; ++i) fresh += bytes[i] != sacked;
                    tcp_delivery news;
                    s.board.acknowledge(s.at(una), s.at(ack), news, s.pool);
                    REQUIRE(news.bytes == fresh);
                    una = ack;
                    break;
                }
                default:
                    if (next(5) != 0) break;
                    s.board.lose_all(s.at(una), s.at(size), s.pool);
                    for (std::uint32_t i = una; i < size; ++i) {
                        if (bytes[i] != sacked) bytes[i] = lost;
                    }
            }
            std::uint32_t counts[4] = {};
            std::vector<char> shown(size, original);
            for (std::size_t i = 0; i < s.board.ranges(); ++i) {
                const sent_range& range = s.board.at(i);
                REQUIRE(range.start < range.end);
                if (i > 0) REQUIRE(s.board.at(i - 1).end <= range.start);
                for (sequence at = range.start; at < range.end; at += 1) {
                    shown[static_cast<std::size_t>(at - s.zero)] =
                        static_cast<char>(1 + static_cast<int>(range.fate));
                }
            }
            for (std::uint32_t i = una; i < size; ++i) {
                REQUIRE(shown[i] == bytes[i]);
                ++counts[static_cast<std::size_t>(bytes[i])];
            }
            REQUIRE(s.board.sacked_bytes() == counts[sacked]);
            REQUIRE(s.board.lost_bytes() == counts[lost]);
        }
    }
}
