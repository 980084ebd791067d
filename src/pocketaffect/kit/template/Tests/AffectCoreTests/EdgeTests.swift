import AffectCore
import XCTest

/// What golden.json cannot say: input that is none, and how long things are remembered.
final class EdgeTests: XCTestCase {
    private let metadata = [
        "labels": FaceExpression.allCases.map(\.rawValue).joined(separator: ","),
        "valence_arousal_order": "valence,arousal", "input_size": "48", "crop_margin": "0.15",
    ]

    func testABoxThatIsNoneGivesNoSquare() {
        for value in [Double.nan, .infinity, 1e300] {
            for box in [
                FaceBox(x: value, y: 0, width: 4, height: 4), FaceBox(x: 0, y: 0, width: value, height: 4),
                FaceBox(x: 0, y: -value, width: 4, height: 4),
            ] {
                XCTAssertNil(CropSquare(around: box, margin: 0, imageWidth: 9, imageHeight: 9), "\(box)")
            }
        }
    }

    func testAHugeSquareIsCutInNoTimeOutOfASmallPicture() {
        let square = CropSquare(left: -500_000_000, top: -500_000_000, side: 1_000_000_000)
        let picture: [UInt8] = [10, 20, 30, 200, 210, 220]
        let crop = PixelGrid(width: 2, height: 1, format: .rgb).cut(square, from: picture, size: 2)
        XCTAssertEqual(crop, [10, 20, 30, 200, 210, 220, 10, 20, 30, 200, 210, 220])
    }

    func testMetadataThatCannotBeReadSayWhichKeyAndWhatIsAllowed() throws {
        XCTAssertNil(try ModelFacts(metadata: metadata).unsureBelow)
        let wrong = [
            "labels": "happy,sad", "valence_arousal_order": "arousal", "input_size": "4", "crop_margin": "2",
            "unsure_below": "often",
        ]
        for (key, value) in wrong {
            var changed = metadata
            changed[key] = value
            XCTAssertThrowsError(try ModelFacts(metadata: changed)) { error in
                XCTAssertEqual((error as? ModelFactsError)?.key, key)
                XCTAssertTrue(error.localizedDescription.contains(value), error.localizedDescription)
            }
        }
        XCTAssertThrowsError(try ModelFacts(metadata: [:]))
    }

    func testWithoutAThresholdNothingIsUnsure() throws {
        let even = Affect(probabilities: [Double](repeating: 0.125, count: 8), valence: 0, arousal: 0)
        XCTAssertFalse(try ModelFacts(metadata: metadata).isUnsure(even))
        XCTAssertEqual(even.expression, .neutral)
    }

    func testANeutralFaceWithoutNeutralityLeavesProbabilitiesAsTheyWere() {
        let neutral = Affect(probabilities: [0, 1, 0, 0, 0, 0, 0, 0], valence: 0.5, arousal: 0)
        let compared = NeutralBaseline(neutral: neutral).compare(neutral)
        XCTAssertEqual(compared.probabilities, neutral.probabilities)
        XCTAssertEqual(compared.valence, 0)
    }

    func testATrackThatWasGoneForLongStartsAfresh() {
        var smoother = Smoother(timeConstant: 10)
        let calm = Affect(probabilities: [1, 0, 0, 0, 0, 0, 0, 0], valence: 0, arousal: -1)
        let excited = Affect(probabilities: [0, 0, 0, 1, 0, 0, 0, 0], valence: 0, arousal: 1)
        _ = smoother.smooth(calm, track: 0, at: 0)
        XCTAssertLessThan(smoother.smooth(excited, track: 0, at: 0.5).arousal, 0)
        XCTAssertEqual(smoother.smooth(excited, track: 0, at: 2), excited)
    }

    func testAPackagesBytesComeFileByFileInTheOrderOfTheirPaths() throws {
        let package = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        defer { try? FileManager.default.removeItem(at: package) }
        let files = ["Manifest.json": "{}", "Data/b": "", "Data/a.bin": "abc"]
        for (path, text) in files {
            let file = package.appendingPathComponent(path)
            let folder = file.deletingLastPathComponent()
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            try Data(text.utf8).write(to: file)
        }
        let content = try packageContent(at: package)
        XCTAssertEqual(String(decoding: content, as: UTF8.self), "Data/a.bin\03\0abcData/b\00\0Manifest.json\02\0{}")
    }

    func testWhereAllSongsWereHeardTheyComeBack() throws {
        let json = """
            {"genres": {"happiness": ["pop"]}, "mapping": {"genre": 0.35, "closeness": 0.6, "mode": 0.05}, "songs": [
            {"id": "a", "title": "A", "artist": "One & Two", "genres": ["pop"], "valence": 1, "energy": 0.5, "mode": 1},
            {"id": "b", "title": "B", "artist": "one & two", "genres": ["blues"], "valence": 0, "energy": 0.5}]}
            """
        let catalogue = try SongCatalogue(json: Data(json.utf8))
        let happy = Affect(probabilities: [0, 1, 0, 0, 0, 0, 0, 0], valence: 1, arousal: 0)
        XCTAssertEqual(catalogue.scores(for: happy)[0], 1, accuracy: 1e-12)
        XCTAssertEqual(catalogue.suggest(for: happy).map(\.id), ["a", "b"])
        XCTAssertEqual(catalogue.suggest(for: happy, recent: ["a"]).map(\.id), ["b", "a"])
        XCTAssertEqual(catalogue.suggest(for: happy, recent: ["a", "b"], count: 1).map(\.id), ["a"])
        XCTAssertEqual(
            catalogue.songs[0].searchURL?.absoluteString, "https://music.apple.com/search?term=One%20%26%20Two%20A"
        )
    }
}
