// SPDX-License-Identifier: MIT
// Work for a compiler: many instantiations of class templates, overload sets and lambdas.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

namespace {

template <std::size_t number>
struct Key {
  std::size_t value = number;
  auto operator<=>(const Key&) const = default;
};

template <std::size_t number>
struct Shape {
  std::array<double, number % 7 + 1> sides{};
  [[nodiscard]] double area() const {
    return std::accumulate(sides.begin(), sides.end(), static_cast<double>(number));
  }
};

template <std::size_t number>
std::size_t use_containers(std::size_t seed) {
  std::map<Key<number>, std::vector<std::string>> by_key;
  std::unordered_map<std::string, std::unique_ptr<Shape<number>>> by_name;
  for (std::size_t index = 0; index < number + 3; ++index) {
    by_key[Key<number>{seed % (index + 1)}].push_back(std::to_string(index * seed));
    by_name.emplace(std::to_string(index), std::make_unique<Shape<number>>());
  }
  std::function<double(const Shape<number>&)> measure = [seed](const Shape<number>& shape) {
    return shape.area() + static_cast<double>(seed);
  };
  double sum = 0;
  for (const auto& [name, shape] : by_name)
    sum += measure(*shape) + static_cast<double>(name.size());
  for (auto& [key, texts] : by_key) {
    std::sort(texts.begin(), texts.end(), [](const auto& a, const auto& b) { return a > b; });
    sum += static_cast<double>(key.value + texts.front().size());
  }
  return static_cast<std::size_t>(sum);
}

template <std::size_t... numbers>
std::size_t use_all(std::size_t seed, std::index_sequence<numbers...>) {
  using Any = std::variant<Shape<numbers>...>;
  const std::tuple<Key<numbers>...> keys;
  std::vector<Any> shapes{Any(std::in_place_type<Shape<numbers>>)...};
  std::size_t sum = (std::get<Key<numbers>>(keys).value + ...);
  for (const Any& any : shapes) {
    sum +=
        static_cast<std::size_t>(std::visit([](const auto& shape) { return shape.area(); }, any));
  }
  return (sum + ... + use_containers<numbers>(seed));
}

}  // namespace

int main(int count, char**) {
  std::printf("%zu\n", use_all(static_cast<std::size_t>(count), std::make_index_sequence<8>{}));
}
