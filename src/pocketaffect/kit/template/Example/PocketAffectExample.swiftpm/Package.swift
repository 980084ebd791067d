// swift-tools-version:5.7
import AppleProductTypes
import PackageDescription

let package = Package(
    name: "PocketAffectExample",
    platforms: [.iOS("16.0")],
    products: [
        .iOSApplication(
            name: "PocketAffectExample",
            targets: ["AppModule"],
            bundleIdentifier: "org.example.PocketAffectExample",
            displayVersion: "1.0",
            bundleVersion: "1",
            appIcon: .placeholder(icon: .sparkle),
            accentColor: .presetColor(.blue),
            supportedDeviceFamilies: [.pad, .phone],
            // CameraFrame's orientation is that of an upright device.
            supportedInterfaceOrientations: [.portrait],
            capabilities: [
                .camera(purposeString: "Your expression chooses the songs. No picture is kept or leaves this device.")
            ]
        )
    ],
    dependencies: [.package(path: "../..")],
    targets: [
        .executableTarget(
            name: "AppModule",
            dependencies: [
                .product(name: "PocketAffectKit", package: "PocketAffectKit"),
                .product(name: "AffectCore", package: "PocketAffectKit"),
            ],
            path: "."
        )
    ]
)
