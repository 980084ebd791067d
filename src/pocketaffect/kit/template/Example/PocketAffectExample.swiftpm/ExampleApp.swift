import SwiftUI

@main
struct ExampleApp: App {
    @StateObject private var session = Session()

    var body: some Scene {
        WindowGroup {
            ContentView(session: session)
        }
    }
}
