// Runs inputs that were kept through their targets: what tools/check does with those of
// tests/fuzz/corpus, and how a finding of tools/fuzz is looked at again. Needs no libFuzzer.
//
//   fuzz_replay --list             targets
//   fuzz_replay --covers TARGET    the sources that its inputs are to cover
//   fuzz_replay --all FOLDER       every target, each with the files of FOLDER/TARGET
//   fuzz_replay TARGET FILE...     files, or folders of them
//
// Each target runs in a process of its own, so that one that dies is told from the others: prints
// which file it died with, and at the end how many passed. The exit status is 0 when all did.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "tests/fuzz/target.hh"

namespace {

namespace files = std::filesystem;

// An input that takes longer is a finding as well: a loop that does not end.
constexpr unsigned longest_seconds = 60;

std::vector<files::path> inputs_in(const files::path& where) {
    std::vector<files::path> out;
    if (!files::is_directory(where)) return {where};
    for (const auto& entry : files::directory_iterator(where))
        if (entry.is_regular_file()) out.push_back(entry.path());
    std::sort(out.begin(), out.end());
    return out;
}

burin::byte_vector content(const files::path& file) {
    std::ifstream in(file, std::ios::binary);
    if (!in) {
        std::fprintf(stderr, "fuzz_replay: cannot read %s\n", file.c_str());
        std::_Exit(2);
    }
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    const burin::bytes_view bytes = burin::as_bytes(text);
    return {bytes.begin(), bytes.end()};
}

// The number of the input at work, where the parent sees it after a death.
std::size_t* shared_number() {
    void* page = mmap(nullptr, sizeof(std::size_t), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        std::perror("fuzz_replay: mmap");
        std::_Exit(2);
    }
    return static_cast<std::size_t*>(page);
}

bool run(const fuzz::target& target, const std::vector<files::path>& inputs) {
    static std::size_t* const at = shared_number();
    const auto begun = std::chrono::steady_clock::now();
    std::fflush(nullptr);
    const pid_t child = fork();
    if (child < 0) {
        std::perror("fuzz_replay: fork");
        return false;
    }
    if (child == 0) {
        for (*at = 0; *at < inputs.size(); ++*at) {
            const burin::byte_vector input = content(inputs[*at]);
            alarm(longest_seconds);
            target.run(input);
        }
        std::exit(0);  // with the leak check, and with what counts lines
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0) {
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun;
    const std::string name(target.name);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        std::printf("%-16s %4zu inputs  %5.2f s\n", name.c_str(), inputs.size(), took.count());
        return true;
    }
    if (*at < inputs.size()) {
        std::printf("%-16s FAILED with %s: %s\n  again: fuzz_replay %s %s\n", name.c_str(),
                    inputs[*at].c_str(),
                    WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "see the report above",
                    name.c_str(), inputs[*at].c_str());
    } else {
        std::printf("%-16s FAILED after its last input: see the report above\n", name.c_str());
    }
    return false;
}

const fuzz::target* find(std::string_view name) {
    for (const fuzz::target* t : fuzz::targets())
        if (t->name == name) return t;
    std::fprintf(stderr, "fuzz_replay: no target '%s' (--list shows them)\n",
                 std::string(name).c_str());
    return nullptr;
}

std::vector<const fuzz::target*> by_name() {
    std::vector<const fuzz::target*> out(fuzz::targets().begin(), fuzz::targets().end());
    std::sort(out.begin(), out.end(), [](auto* a, auto* b) { return a->name < b->name; });
    return out;
}

int run_all(const files::path& corpora) {
    unsigned passed = 0, failed = 0;
    for (const fuzz::target* t : by_name()) {
        const files::path folder = corpora / t->name;
        const bool there = files::is_directory(folder);
        const std::vector<files::path> inputs =
            there ? inputs_in(folder) : std::vector<files::path>{};
        if (inputs.empty())
            std::printf("%-16s FAILED: no inputs in %s\n", std::string(t->name).c_str(),
                        folder.c_str());
        const bool good = !inputs.empty() && run(*t, inputs);
        ++(good ? passed : failed);
    }
    std::printf("%u passed, %u failed\n", passed, failed);
    return failed == 0 ? 0 : 1;
}

}  // namespace

int main(int count, char** arguments) {
    const std::vector<std::string> words(arguments + 1, arguments + count);
    if (words.size() == 1 && words[0] == "--list") {
        for (const fuzz::target* t : by_name()) std::printf("%s\n", std::string(t->name).c_str());
        return 0;
    }
    if (words.size() == 2 && words[0] == "--covers") {
        const fuzz::target* t = find(words[1]);
        if (t == nullptr) return 2;
        std::printf("%s\n", std::string(t->covers).c_str());
        return 0;
    }
    if (words.size() == 2 && words[0] == "--all") return run_all(words[1]);
    if (words.size() < 2 || words[0].starts_with("-")) {
        std::fprintf(
            stderr,
            "usage: fuzz_replay --list | --covers TARGET | --all FOLDER | TARGET FILE...\n");
        return 2;
    }
    const fuzz::target* t = find(words[0]);
    if (t == nullptr) return 2;
    std::vector<files::path> inputs;
    for (std::size_t i = 1; i < words.size(); ++i)
        for (files::path& one : inputs_in(words[i])) inputs.push_back(std::move(one));
    return run(*t, inputs) ? 0 : 1;
}
