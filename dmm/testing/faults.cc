#include "dmm/testing/faults.h"

#include "dmm/testing/internal/memory_connection.h"

namespace dmm::testing {

using std::chrono::milliseconds;
using Kind = FaultBook::Kind;

void Faults::refuse(Which which) {
  connection_.faults().add(Kind::refuse, which);
}

void Faults::in_doubt(Which which) {
  connection_.faults().add(Kind::in_doubt, which);
}

void Faults::duplicate(Which which) {
  connection_.faults().add(Kind::duplicate, which);
}

void Faults::drop(Which which, milliseconds after) {
  connection_.faults().add(Kind::drop, which, after);
}

void Faults::delay(Which which, milliseconds most) {
  connection_.faults().add(Kind::delay, which, most);
}

void Faults::lag(Part stream, milliseconds most) {
  connection_.faults().add(Kind::lag, {.stream = stream}, most);
}

void Faults::hold(Which which) {
  connection_.faults().add(Kind::hold, which);
}

void Faults::let_go(Part stream, Call call) {
  for (FaultBook::Answer& answer : connection_.faults().let_go(stream, call)) {
    connection_.deliver(std::move(answer));
  }
}

std::size_t Faults::held(Part stream, Call call) const {
  return connection_.faults().held(stream, call);
}

void Faults::clear() {
  for (FaultBook::Answer& answer : connection_.faults().clear()) {
    connection_.deliver(std::move(answer));
  }
}

void Faults::partition() {
  connection_.partition();
}

void Faults::heal() {
  connection_.heal();
}

std::uint64_t Faults::struck() const {
  return connection_.faults().struck();
}

std::uint64_t Faults::seed() const {
  return connection_.faults().seed();
}

std::string Faults::to_string() const {
  return connection_.faults().to_string();
}

}  // namespace dmm::testing
