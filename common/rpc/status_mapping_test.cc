#include "common/rpc/status_mapping.h"

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"

namespace trun {
namespace {

TEST(StatusMapping, StatusOfGrpcItselfGetsTheReasonThatFitsItsCode) {
  const absl::Status status =
      FromGrpcStatus(grpc::Status(grpc::StatusCode::UNAVAILABLE, "connection refused"));
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(GetReason(status), Reason::kUnavailable);
}

TEST(StatusMapping, DetailsThatDoNotParseAreDropped) {
  const absl::Status status = FromGrpcStatus(grpc::Status(grpc::StatusCode::ABORTED, "m", "\xff\xff\xff"));
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  EXPECT_EQ(status.message(), "m");
}

TEST(StatusMapping, ErrorInfoOfAnotherDomainIsNotOurs) {
  google::rpc::Status wire;
  google::rpc::ErrorInfo info;
  info.set_domain("elsewhere");
  info.set_reason("QUOTA");
  wire.add_details()->PackFrom(info);
  const absl::Status status =
      FromGrpcStatus(grpc::Status(grpc::StatusCode::NOT_FOUND, "m", wire.SerializeAsString()));
  EXPECT_EQ(GetReason(status), Reason::kUnspecified);
}

TEST(StatusMapping, AnUnknownCodeBecomesUnknown) {
  // 20: no code of gRPC's, and yet a value that its enumeration can hold.
  EXPECT_EQ(FromGrpcStatus(grpc::Status(static_cast<grpc::StatusCode>(20), "m")).code(),
            absl::StatusCode::kUnknown);
}

TEST(StatusMapping, TextThatIsNotUtf8IsMadeSo) {
  EXPECT_EQ(WireText("a\xff\xc3z\xed\xa0\x80", 100), "a??z???");
  EXPECT_EQ(WireText("Grüße", 100), "Grüße");
}

TEST(StatusMapping, AnErrorOfAnySizeFitsUntunedTrailersAndKeepsItsEnd) {
  std::string log(100000, '\n');
  log += "ptxas fatal: the last line";
  ErrorDetails details;
  for (int i = 0; i < 100; ++i) details["key" + std::to_string(i)] = std::string(1000, 'x');
  v1::FaultReport fault;
  fault.set_message(std::string(100000, 'f'));
  const grpc::Status wire =
      ToGrpcStatus(WithFault(FailedPrecondition(Reason::kCompileFailed, log, details), fault));
  EXPECT_LT(wire.error_message().size() * 3 + wire.error_details().size(), 12000u);
  EXPECT_LT(wire.error_details().size(), 5000u);
  const absl::Status back = FromGrpcStatus(wire);
  EXPECT_NE(back.message().find("the last line"), absl::string_view::npos);
  EXPECT_EQ(GetReason(back), Reason::kCompileFailed);
}

TEST(StatusMapping, EveryReasonGoesOverTheWireAndBackAndHasItsProtoName) {
  for (int number = 1; number < v1::ErrorReason_ARRAYSIZE; ++number) {
    const Reason reason = static_cast<Reason>(number);
    EXPECT_EQ(v1::ErrorReason_Name(static_cast<v1::ErrorReason>(number)),
              "ERROR_REASON_" + std::string(ReasonName(reason)));
    const absl::Status sent =
        MakeError(absl::StatusCode::kAborted, reason, "what happened", {{"line", "12"}, {"column", "3"}});
    EXPECT_EQ(FromGrpcStatus(ToGrpcStatus(sent)), sent);
  }
}

TEST(StatusMapping, AFaultReportTravelsWithItsStatus) {
  v1::FaultReport fault;
  fault.set_sequence(7);
  fault.set_instruction("st.global.b32");
  fault.add_program(1);
  const absl::Status back = FromGrpcStatus(
      ToGrpcStatus(WithFault(FailedPrecondition(Reason::kIllegalAddress, "store past the end"), fault)));
  ASSERT_TRUE(GetFault(back).has_value());
  EXPECT_EQ(GetFault(back)->SerializeAsString(), fault.SerializeAsString());
  EXPECT_FALSE(GetFault(absl::InternalError("x")).has_value());
}

TEST(StatusMapping, OkStaysOk) {
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
  EXPECT_TRUE(FromGrpcStatus(grpc::Status::OK).ok());
  EXPECT_TRUE(WithFault(absl::OkStatus(), {}).ok());
}

}  // namespace
}  // namespace trun
