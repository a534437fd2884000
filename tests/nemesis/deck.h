#pragma once

#include <algorithm>
#include <random>
#include <utility>
#include <vector>

namespace dmm::nemesis {

/// Deals cards at random, each as often as it is in the deck before any comes again: chance without
/// the luck that leaves one out.
template <class Card>
class Deck final {
 public:
  explicit Deck(std::vector<Card> cards) : cards_(std::move(cards)) {}

  Card deal(std::mt19937_64& random) {
    if (left_.empty()) {
      left_ = cards_;
      std::ranges::shuffle(left_, random);
    }
    const Card card = left_.back();
    left_.pop_back();
    return card;
  }

 private:
  std::vector<Card> cards_;
  std::vector<Card> left_;
};

}  // namespace dmm::nemesis
