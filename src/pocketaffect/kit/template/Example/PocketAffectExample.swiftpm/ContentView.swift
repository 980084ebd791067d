import AffectCore
import SwiftUI

struct ContentView: View {
    @ObservedObject var session: Session

    var body: some View {
        ScrollView {
            VStack(spacing: 16) {
                CameraPreview(session: session.camera.session)
                    .aspectRatio(3 / 4, contentMode: .fit)
                    .frame(maxHeight: 320)
                    .clipShape(RoundedRectangle(cornerRadius: 16))
                    .accessibilityLabel("Camera")
                if let text = session.problem ?? session.warning { Text(text).foregroundColor(.red) }
                Text(label).font(.title2.bold())
                HStack(spacing: 16) {
                    AffectPad(trail: session.trail)
                    if let affect = session.affect { Probabilities(affect: affect) }
                }
                HStack {
                    Button("Five songs", action: session.suggest).buttonStyle(.borderedProminent)
                    Button(session.baseline == nil ? "This is my neutral face" : "Forget my neutral face") {
                        session.toggleNeutral()
                    }
                    .buttonStyle(.bordered)
                }
                .disabled(session.affect == nil)
                ForEach(session.songs) { song in
                    SongRow(song: song) { session.rate(song, stars: $0) }
                }
            }
            .padding()
        }
        .task { await session.run() }
    }

    private var label: String {
        guard let affect = session.affect else { return "No face" }
        let name = affect.expression.rawValue
        return session.isUnsure ? "Unsure, perhaps \(name)" : name.capitalized
    }
}

/// A bar for each expression.
struct Probabilities: View {
    let affect: Affect

    var body: some View {
        VStack(alignment: .leading, spacing: 4) {
            ForEach(FaceExpression.allCases, id: \.self) { expression in
                ProgressView(value: min(1, max(0, affect[expression]))) {
                    Text(expression.rawValue).font(.caption2)
                }
            }
        }
    }
}

/// A song, the search for it, and the stars that the listener gives.
struct SongRow: View {
    let song: Song
    let rate: (Int) -> Void
    @State private var stars = 0

    var body: some View {
        HStack {
            VStack(alignment: .leading) {
                if let url = song.searchURL { Link(song.title, destination: url) } else { Text(song.title) }
                Text(song.artist).font(.caption).foregroundColor(.secondary)
            }
            Spacer()
            ForEach(1...5, id: \.self) { star in
                Button {
                    stars = star
                    rate(star)
                } label: {
                    Image(systemName: star <= stars ? "star.fill" : "star")
                }
                .accessibilityLabel("\(star) of 5 stars")
            }
        }
    }
}
