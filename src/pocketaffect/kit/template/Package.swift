// swift-tools-version:5.7
import PackageDescription

let package = Package(
    name: "PocketAffectKit",
    platforms: [.iOS("16.0"), .macOS("13.0")],
    products: [
        .library(name: "PocketAffectKit", targets: ["PocketAffectKit"]),
        .library(name: "AffectCore", targets: ["AffectCore"]),
    ],
    targets: [
        .target(name: "AffectCore", resources: [.copy("Resources/songs.json")]),
        // The folder is copied, so that Xcode leaves the package in it as it is: AffectReader compiles it on the device.
        .target(name: "PocketAffectKit", dependencies: ["AffectCore"], resources: [.copy("Model")]),
        .testTarget(name: "AffectCoreTests", dependencies: ["AffectCore"], resources: [.copy("Resources/golden.json")]),
        .testTarget(name: "PocketAffectKitTests", dependencies: ["PocketAffectKit"]),
    ]
)
