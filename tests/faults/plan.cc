#include "tests/faults/plan.hh"

#include <cerrno>
#include <charconv>
#include <utility>

namespace burin::faults {

namespace {

constexpr std::array<std::string_view, operations> names = {
    "receive", "receive_message", "receive_messages", "send",    "send_zero_copy", "send_message",
    "accept",  "connect",         "shutdown",         "cancel",  "close",          "poll",
    "read",    "read_frames",     "write_vector",     "message", "enter",          "socket",
    "mmap"};

constexpr std::pair<std::string_view, int> errors[] = {{"EAGAIN", EAGAIN},
                                                       {"EINTR", EINTR},
                                                       {"ENOBUFS", ENOBUFS},
                                                       {"ENOMEM", ENOMEM},
                                                       {"EMFILE", EMFILE},
                                                       {"ENFILE", ENFILE},
                                                       {"ECANCELED", ECANCELED},
                                                       {"EBUSY", EBUSY},
                                                       {"EIO", EIO},
                                                       {"ECONNRESET", ECONNRESET},
                                                       {"EPIPE", EPIPE},
                                                       {"ETIMEDOUT", ETIMEDOUT},
                                                       {"EADDRNOTAVAIL", EADDRNOTAVAIL},
                                                       {"ENETUNREACH", ENETUNREACH}};

// What stands before the separator, which is taken away with it; all, when there is none.
std::string_view take(std::string_view& text, char separator) noexcept {
    const std::size_t at = text.find(separator);
    std::string_view head = text.substr(0, at);
    text.remove_prefix(at == text.npos ? text.size() : at + 1);
    return head;
}

template <class Number>
bool number(std::string_view text, Number& into) noexcept {
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), into);
    return error == std::errc{} && end == text.data() + text.size();
}

std::optional<rule> parse_rule(std::string_view text) noexcept {
    rule r;
    const std::string_view what = take(text, ':');
    const std::string_view times = take(text, '/');
    if (!number(times, r.times) || !number(text, r.of) || r.of == 0) return {};
    if (what == "cut" || what == "late") {
        r.what = what == "cut" ? rule::kind::cut : rule::kind::late;
        return r;
    }
    for (const auto& [name, value] : errors)
        if (what == name) r.error = value;
    if (r.error == 0) return {};
    return r;
}

}  // namespace

std::string_view name_of(operation o) noexcept {
    return names[static_cast<std::size_t>(o)];
}

std::optional<plan> parse_plan(std::string_view text) {
    plan p;
    while (!text.empty()) {
        std::string_view value = take(text, ' ');
        if (value.empty()) continue;
        const std::string_view name = take(value, '=');
        if (name == "seed" || name == "submissions" || name == "completions") {
            const bool good = name == "seed"          ? number(value, p.seed)
                              : name == "submissions" ? number(value, p.submissions)
                                                      : number(value, p.completions);
            if (!good) return {};
            continue;
        }
        std::vector<rule>* rules = nullptr;
        for (std::size_t i = 0; i < operations; ++i)
            if (names[i] == name) rules = &p.rules[i];
        if (rules == nullptr || value.empty()) return {};
        while (!value.empty()) {
            auto one = parse_rule(take(value, ','));
            if (!one) return {};
            rules->push_back(*one);
        }
    }
    return p;
}

}  // namespace burin::faults
