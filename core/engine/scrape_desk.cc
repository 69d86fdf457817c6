#include "core/engine/scrape_desk.hh"

#include <algorithm>
#include <utility>

namespace burin::engine {

scrape_desk::scraper* scrape_desk::find(int id) {
    const auto at =
        std::find_if(_all.begin(), _all.end(), [id](const scraper& s) { return s.id == id; });
    return at == _all.end() ? nullptr : &*at;
}

const scrape_desk::scraper* scrape_desk::find(int id) const {
    return const_cast<scrape_desk*>(this)->find(id);
}

void scrape_desk::end(int id) {
    const auto at =
        std::find_if(_all.begin(), _all.end(), [id](const scraper& s) { return s.id == id; });
    if (at == _all.end()) return;
    if (at->at != stage::draining) ++_counters.cut_off;
    _gone.push_back(id);
    _all.erase(at);
}

void scrape_desk::arrived(int id, ring::microseconds_t now) {
    if (_all.size() >= _limits.connections) end(_all.front().id);
    _all.push_back({.id = id, .deadline = now + _limits.request});
}

void scrape_desk::received(int id, bytes_view bytes, ring::microseconds_t now) {
    scraper* s = find(id);
    if (s == nullptr) return;
    if (bytes.empty()) {
        // One that has said all it wants to may still read its answer.
        s->closed = true;
        if (s->at == stage::reading || s->at == stage::draining) end(id);
        return;
    }
    if (s->at != stage::reading) return;
    s->head.insert(s->head.end(), bytes.begin(), bytes.end());
    const auto state = s->request.feed(s->head);
    if (state == http::scrape_request::state::need_more) return;
    s->head = byte_vector();
    s->deadline = now + _limits.answer;
    s->at = stage::waiting;
    if (state == http::scrape_request::state::metrics) return;
    ++_counters.refused;
    s->answer = std::make_shared<const std::string>(s->request.answer());
    s->at = stage::sending;
}

bool scrape_desk::to_read(int id) const {
    const scraper* s = find(id);
    return s != nullptr && !s->closed;
}

void scrape_desk::broken(int id) {
    end(id);
}

std::string_view scrape_desk::to_send(int id) const {
    const scraper* s = find(id);
    if (s == nullptr || s->at != stage::sending) return {};
    return std::string_view(*s->answer).substr(s->sent);
}

void scrape_desk::sent(int id, std::size_t bytes) {
    scraper* s = find(id);
    if (s == nullptr || s->at != stage::sending) return;
    s->sent += bytes;
    if (s->sent < s->answer->size()) return;
    s->answer.reset();
    s->at = stage::draining;
    if (s->has_numbers) ++_counters.answered;
    if (s->closed) end(id);
}

bool scrape_desk::to_shut(int id) {
    scraper* s = find(id);
    return s != nullptr && s->at == stage::draining && !std::exchange(s->shut, true);
}

bool scrape_desk::wants_numbers(ring::microseconds_t now) const {
    if (_began || (_last && now < *_last + _limits.pause)) return false;
    return std::any_of(_all.begin(), _all.end(),
                       [](const scraper& s) { return s.at == stage::waiting; });
}

void scrape_desk::begin(ring::microseconds_t now) {
    _began = _last = now;
    for (scraper& s : _all)
        if (s.at == stage::waiting) s.at = stage::asked;
}

void scrape_desk::answer_all(std::string response, bool has_numbers) {
    _began.reset();
    const auto shared = std::make_shared<const std::string>(std::move(response));
    for (scraper& s : _all) {
        if (s.at != stage::asked) continue;
        s.answer = shared;
        s.has_numbers = has_numbers;
        s.at = stage::sending;
    }
}

void scrape_desk::numbers(std::string_view text) {
    answer_all(http::metrics_response(text), true);
}

void scrape_desk::no_numbers(std::string_view why) {
    ++_counters.without_numbers;
    answer_all(http::unavailable_response(why), false);
}

bool scrape_desk::overdue(ring::microseconds_t now) const {
    return _began && now >= *_began + _limits.numbers;
}

void scrape_desk::advance(ring::microseconds_t now) {
    std::vector<int> late;
    for (const scraper& s : _all)
        if (now >= s.deadline) late.push_back(s.id);
    for (int id : late) end(id);
}

std::optional<ring::microseconds_t> scrape_desk::next() const {
    std::optional<ring::microseconds_t> first;
    const auto at = [&first](ring::microseconds_t when) {
        first = first ? std::min(*first, when) : when;
    };
    for (const scraper& s : _all) {
        at(s.deadline);
        if (s.at == stage::waiting && !_began) at(_last ? *_last + _limits.pause : 0);
    }
    if (_began) at(*_began + _limits.numbers);
    return first;
}

std::vector<int> scrape_desk::take_gone() {
    return std::exchange(_gone, {});
}

}  // namespace burin::engine
