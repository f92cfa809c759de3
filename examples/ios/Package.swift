// swift-tools-version: 5.9
import PackageDescription

let package = Package(
  name: "TextBundle",
  platforms: [.iOS(.v15), .macOS(.v12)],
  products: [.library(name: "TextBundle", targets: ["TextBundle"])],
  dependencies: [.package(path: "LiteRT")],  // a checkout of google-ai-edge/LiteRT
  targets: [
    .target(
      name: "TextBundle", dependencies: [.product(name: "LiteRT", package: "LiteRT")],
      path: "Sources/TextBundle")
  ]
)
