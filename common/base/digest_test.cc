#include "common/base/digest.h"

#include <gtest/gtest.h>

namespace trun {
namespace {

TEST(DigestTest, TextThatIsNoDigestIsRefused) {
  EXPECT_FALSE(Digest::FromHex("").ok());
  EXPECT_FALSE(Digest::FromHex(std::string(63, 'a')).ok());
  EXPECT_FALSE(Digest::FromHex(std::string(64, 'g')).ok());
  EXPECT_FALSE(Digest::FromBytes("short").ok());
}

TEST(DigestTest, TheDigestOfAbcIsTheOneInFips180) {
  const Digest digest = Digest::Of("abc");
  EXPECT_EQ(digest.ToHex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(*Digest::FromHex(digest.ToHex()), digest);
  EXPECT_EQ(*Digest::FromBytes(digest.bytes()), digest);
}

TEST(HasherTest, FieldsDoNotRunIntoEachOther) {
  EXPECT_NE(Hasher().Add("ab").Add("c").Finish(), Hasher().Add("a").Add("bc").Finish());
  EXPECT_NE(Hasher().Add("").Finish(), Hasher().Finish());
  EXPECT_EQ(Hasher().Add("a").Add(uint64_t{7}).Finish(), Hasher().Add("a").Add(uint64_t{7}).Finish());
}

}  // namespace
}  // namespace trun
