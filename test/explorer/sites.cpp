// SPDX-License-Identifier: MIT
#include "explorer/sites.hpp"

#include <cstring>
#include <iterator>

#include "explorer/memory.hpp"

namespace slabmalloc::explorer {

namespace {

std::vector<Site> all_sites;
std::vector<bool> used;  ///< By number, in this search.
std::size_t mutated_site = ~std::size_t{0};
Mutation mutation = Mutation::None;

struct SiteKey {
  const char* file = nullptr;
  int line = 0;
  Operation operation{};
  Order order{};
  std::uint32_t number = 0;
};
SiteKey site_table[4096];

std::string path_in_project(const char* file) {
  const std::string path = file;
  if (path.find("test/explorer/") != std::string::npos) {
    return {};
  }
  for (const char* const folder : {"/include/slabmalloc/", "/src/"}) {
    const std::size_t at = path.rfind(folder);
    if (at != std::string::npos) {
      return path.substr(at + 1);
    }
  }
  return {};
}

std::size_t find_or_add(Operation operation, Order order, const Place& where) {
  const std::string file = path_in_project(where.file);
  // Compilers differ in whether they name template arguments.
  const std::string function(where.function, std::strcspn(where.function, "<"));
  for (std::size_t number = 0; number < all_sites.size(); ++number) {
    const Site& site = all_sites[number];
    if (site.file == file && site.line == where.line && site.operation == operation &&
        site.order == order && site.function == function) {
      return number;
    }
  }
  all_sites.push_back({file, function, where.line, operation, order, false, false});
  return all_sites.size() - 1;
}

std::size_t number_of(Operation operation, Order order, const Place& where) noexcept {
  std::uintptr_t hash = reinterpret_cast<std::uintptr_t>(where.file) * 31 +
                        static_cast<unsigned>(where.line) * 2654435761u +
                        static_cast<unsigned>(operation) * 40503u + static_cast<unsigned>(order);
  for (;; ++hash) {
    SiteKey& key = site_table[hash % std::size(site_table)];
    if (key.file == where.file && key.line == where.line && key.operation == operation &&
        key.order == order) {
      return key.number;
    }
    if (key.file == nullptr) {
      key = {where.file, where.line, operation, order,
             static_cast<std::uint32_t>(find_or_add(operation, order, where))};
      return key.number;
    }
  }
}

}  // namespace

std::size_t site_of(Operation operation, Order order, const Place& where) noexcept {
  const std::size_t site = number_of(operation, order, where);
  if (site >= used.size()) {
    used.resize(site + 1);
  }
  used[site] = true;
  return site;
}

bool is_mutated(std::size_t site, Mutation kind) noexcept {
  return site == mutated_site && mutation == kind;
}

Order mutated(std::size_t site, Order order) noexcept {
  if (is_mutated(site, Mutation::NoAcquire)) {
    return releases(order) ? Order::release : Order::relaxed;
  }
  if (is_mutated(site, Mutation::NoRelease)) {
    return acquires(order) ? Order::acquire : Order::relaxed;
  }
  return order;
}

void note_shared(std::size_t site) noexcept { all_sites[site].is_shared = true; }
void note_confirmed(std::size_t site) noexcept { all_sites[site].is_confirmed = true; }

const std::vector<bool>& used_sites() noexcept { return used; }
void forget_used_sites() noexcept { used.clear(); }

const std::vector<Site>& sites() noexcept { return all_sites; }

void mutate(std::size_t site, Mutation kind) noexcept {
  mutated_site = site;
  mutation = kind;
}

const char* describe(Operation operation) noexcept {
  constexpr const char* names[] = {
      "load",      "store",     "toggle",   "exchange", "compare_exchange",
      "fetch_add", "fetch_sub", "fetch_or", "fence"};
  return names[static_cast<unsigned>(operation)];
}

const char* describe(Order order) noexcept {
  switch (order) {
    case Order::relaxed:
      return "relaxed";
    case Order::acquire:
      return "acquire";
    case Order::release:
      return "release";
    case Order::acq_rel:
      return "acq_rel";
  }
  return "";
}

const char* describe(Mutation kind) noexcept {
  constexpr const char* names[] = {"none",     "without acquire", "without release",
                                   "left out", "blind",           "in two steps"};
  return names[static_cast<unsigned>(kind)];
}

}  // namespace slabmalloc::explorer
