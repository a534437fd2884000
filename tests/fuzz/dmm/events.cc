// Events of resources: whoever may write to the stream may have written them.
#include "dmm/resource/event_text.h"
#include "tests/fuzz/dmm/input.h"

using namespace dmm;
using namespace dmm::fuzz;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const transport::Message message = message_of({reinterpret_cast<const char*>(data), size});
  const std::optional<resource::Event> event = resource::internal::read_event(message);
  if (!event) return 0;
  must(event->position == message.sequence);
  // As the tool shows it.
  const auto at = std::chrono::time_point_cast<std::chrono::milliseconds>(event->at);
  must(std::chrono::abs(at - event->at) < std::chrono::milliseconds(1));
  return 0;
}
