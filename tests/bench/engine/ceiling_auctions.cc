// Q3 and Q4 by hand. Their events are insertions only, and that is all that these can take.

#include <algorithm>
#include <utility>

#include "tests/bench/engine/ceiling.h"

namespace dmm::bench {
namespace {

using u32 = std::uint32_t;

constexpr u32 kPerson = 0;
constexpr u32 kAuction = 1;
constexpr u32 kBid = 2;

class SellersCeiling final : public Ceiling {
 public:
  void step(const Events& events, Changes& out) override {
    for (const Event& event : events) {
      if (event.input == kPerson && event.row[1] < 3) {
        take_person(event.row[0], event.row[1], out);
      } else if (event.input == kAuction && event.row[2] == 10) {
        take_auction(event.row[0], event.row[1], out);
      }
    }
  }

 private:
  void take_person(u32 person, u32 state, Changes& out) {
    states_[person] = state;
    const auto auctions = auctions_.find(person);
    if (auctions == auctions_.end()) return;
    for (const u32 auction : auctions->second) out.add(1, {auction, person, state});
  }
  void take_auction(u32 auction, u32 seller, Changes& out) {
    auctions_[seller].push_back(auction);
    const auto state = states_.find(seller);
    if (state != states_.end()) out.add(1, {auction, seller, state->second});
  }
  HashMap<u32, u32> states_;
  HashMap<u32, std::vector<u32>> auctions_;  // by seller
};

class WinningBidsCeiling final : public Ceiling {
 public:
  void step(const Events& events, Changes& out) override {
    before_.clear();
    for (const Event& event : events) {
      if (event.input == kAuction) take_auction(event);
      if (event.input == kBid) take_bid(event.row[0], {event.row[1], event.row[2]});
    }
    for (const auto& [key, before] : before_) {
      const Category& after = categories_.find(key)->second;
      if (before.count != 0) out.add(-1, {key, average(before)});
      out.add(1, {key, average(after)});
    }
  }

 private:
  struct Auction {
    u32 category = 0;
    u32 begins = 0;
    u32 ends = 0;
    u32 top = 0;  // 0: no bid; the least price is 1
  };
  struct Category {
    std::uint64_t sum = 0;  // of the top bids
    std::uint64_t count = 0;
  };
  struct Bid {
    u32 price;
    u32 time;
  };

  static u32 average(const Category& category) {
    return static_cast<u32>(category.sum / category.count);
  }
  void take_auction(const Event& event) {
    const auto& [id, seller, category, begins, ends, unused] = event.row;
    Auction& auction = auctions_[id];
    auction = {category, begins, ends, 0};
    const auto early = bids_.find(id);
    if (early == bids_.end()) return;
    for (const Bid bid : early->second) raise(auction, bid);
  }
  // Bids are kept, since their auction may come after them.
  void take_bid(u32 id, Bid bid) {
    bids_[id].push_back(bid);
    const auto auction = auctions_.find(id);
    if (auction != auctions_.end()) raise(auction->second, bid);
  }
  void raise(Auction& auction, Bid bid) {
    if (bid.time < auction.begins || bid.time > auction.ends || bid.price <= auction.top) return;
    Category& category = categories_[auction.category];
    before_.try_emplace(auction.category, category);
    category.sum += bid.price - auction.top;
    if (auction.top == 0) ++category.count;
    auction.top = bid.price;
  }

  HashMap<u32, Auction> auctions_;
  HashMap<u32, std::vector<Bid>> bids_;
  HashMap<u32, Category> categories_;
  HashMap<u32, Category> before_;
};

}  // namespace

std::unique_ptr<Ceiling> make_sellers_ceiling() {
  return std::make_unique<SellersCeiling>();
}
std::unique_ptr<Ceiling> make_winning_bids_ceiling() {
  return std::make_unique<WinningBidsCeiling>();
}

}  // namespace dmm::bench
